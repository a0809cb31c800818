package config

// Secrets returns every secret text of the configuration, for a mask.
func (c *Config) Secrets() []string {
	var all []string
	for _, s := range flatten(c) {
		if v, ok := s.value.(interface{ Secrets() []string }); ok {
			all = append(all, v.Secrets()...)
		}
	}
	return all
}
