package api

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// podLogDir is where the kubelet keeps the logs of containers.
const podLogDir = "/var/log/pods"

// largestLog bounds how much of a log is sent: kubelet rotates at 10 MiB.
const largestLog = 16 << 20

// podLogs streams the log of a container that Containers names as NAMESPACE/POD:CONTAINER:ID, in the format of the CRI.
func podLogs(request *machineapi.LogsRequest, stream machineapi.MachineService_LogsServer) error {
	if request.GetFollow() {
		return status.Error(codes.Unimplemented, "the reference node does not follow logs of pods: use kubectl logs -f")
	}

	list, err := containersOf(stream.Context(), request.GetNamespace(), request.GetDriver())
	if err != nil {
		return err
	}

	at := slices.IndexFunc(list, func(c *machineapi.ContainerInfo) bool {
		id := c.GetId()

		return c.GetUid() == "" && (id == request.GetId() || id[:strings.LastIndexByte(id, ':')] == request.GetId())
	})
	if at < 0 {
		return status.Errorf(codes.NotFound, "container %q not found", request.GetId())
	}

	path, err := podLog(podLogDir, list[at].GetPodId(), list[at].GetName())
	if err != nil {
		return fileStatus(err)
	}

	content, err := os.ReadFile(path)
	if err != nil {
		return fileStatus(err)
	}

	content = content[max(0, len(content)-largestLog):]
	out := sender{stream.Send}
	_, err = out.Write(lastLines(content, int(request.GetTailLines())))

	return err
}

// podLog finds the log of the last life of a container, in a directory NAMESPACE_POD_UID/CONTAINER with a file for each life.
func podLog(dir, pod, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, strings.Replace(pod, "/", "_", 1)+"_*", name, "*.log"))
	if err != nil {
		return "", err
	}

	life := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".log"))

		return n
	}

	if len(files) == 0 {
		return "", fmt.Errorf("%w: the kubelet keeps no log of %s:%s", os.ErrNotExist, pod, name)
	}

	return slices.MaxFunc(files, func(a, b string) int { return life(a) - life(b) }), nil
}

// lastLines returns the last lines of a text, all of them if lines is negative.
func lastLines(content []byte, lines int) []byte {
	if lines < 0 {
		return content
	}

	at := len(content)
	for range lines {
		if at = bytes.LastIndexByte(content[:max(at-1, 0)], '\n') + 1; at == 0 {
			break
		}
	}

	return content[at:]
}
