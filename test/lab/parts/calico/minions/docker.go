package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

const (
	// defaultAPI is the version of Docker's API that the real plugin's client
	// uses. The client does not negotiate: Docker 29 refuses this version.
	defaultAPI  = "1.38"
	defaultHost = "unix:///var/run/docker.sock"
)

// dockerClient queries Docker, configured by DOCKER_HOST and DOCKER_API_VERSION.
type dockerClient struct {
	http    http.Client
	version string
}

// dockerContainer is the part of a container that the plugin uses.
type dockerContainer struct {
	ID              string `json:"Id"`
	Labels          map[string]string
	NetworkSettings struct{ Networks map[string]dockerEndpoint }
}

type dockerEndpoint struct{ NetworkID, EndpointID, IPAddress string }

func newDockerClient() (dockerClient, error) {
	socket, isUnix := strings.CutPrefix(getenv("DOCKER_HOST", defaultHost), "unix://")
	if !isUnix {
		return dockerClient{}, fmt.Errorf("cannot use DOCKER_HOST=%s: the stand-in only knows unix://", os.Getenv("DOCKER_HOST"))
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial}
	return dockerClient{http: http.Client{Transport: transport}, version: getenv("DOCKER_API_VERSION", defaultAPI)}, nil
}

// containerOf returns the running container with this endpoint.
func (c dockerClient) containerOf(ctx context.Context, endpointID string) (dockerContainer, dockerEndpoint, error) {
	all, err := c.running(ctx)
	if err != nil {
		return dockerContainer{}, dockerEndpoint{}, err
	}
	for _, container := range all {
		for _, endpoint := range container.NetworkSettings.Networks {
			if endpoint.EndpointID == endpointID {
				return container, endpoint, nil
			}
		}
	}
	return dockerContainer{}, dockerEndpoint{}, fmt.Errorf("find no container with endpintID = %s", endpointID) // the real plugin's spelling
}

func (c dockerClient) running(ctx context.Context) ([]dockerContainer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/v"+c.version+"/containers/json", nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var failed struct{ Message string }
		if err := json.NewDecoder(answer.Body).Decode(&failed); err != nil {
			return nil, err
		}
		return nil, errors.New("Error response from daemon: " + failed.Message) //nolint:staticcheck // the message of Docker's client
	}
	var all []dockerContainer
	return all, json.NewDecoder(answer.Body).Decode(&all)
}

// keepsAddress reports whether the container has the label fixed-ip.
func (c dockerContainer) keepsAddress() bool {
	value, labelled := c.Labels["fixed-ip"]
	return labelled && !strings.EqualFold(value, "false") && value != "0"
}
