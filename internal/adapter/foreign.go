package adapter

// Docker sends addresses only with CreateNetwork and CreateEndpoint. So the
// adapter records there which networks are outside the pool, and passes their
// later calls through. A network without a record is the pool's: if a record is
// lost, the pool's containers still work. The records are in /run, because every
// container creates its endpoint again after a boot.

// foreign reports whether a Docker network is outside the pool.
func (a *Adapter) foreign(networkID string) bool {
	return id.MatchString(networkID) && a.host.Exists(foreignDir+"/"+networkID)
}

// setForeign records whether a Docker network is outside the pool.
func (a *Adapter) setForeign(networkID string, foreign bool) {
	if !id.MatchString(networkID) || a.foreign(networkID) == foreign {
		return
	}
	path := foreignDir + "/" + networkID
	var err error
	if foreign {
		err = a.host.WriteFile(path, nil, 0o600)
	} else {
		err = a.host.Remove(path)
	}
	if err != nil {
		a.log("cannot record the network " + networkID + ": " + err.Error())
	}
}
