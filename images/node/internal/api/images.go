package api

import (
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/cri"
)

// containerdNamespaces are containerd's names for the namespaces of the API. Talos has no default either.
var containerdNamespaces = map[common.ContainerdNamespace]string{
	common.ContainerdNamespace_NS_CRI:    constants.K8sContainerdNamespace,
	common.ContainerdNamespace_NS_SYSTEM: constants.SystemContainerdNamespace,
}

// ImageList streams the container images of a namespace, as containerd has them.
func (m *Machine) ImageList(request *machineapi.ImageListRequest, stream machineapi.MachineService_ImageListServer) error {
	namespace, ok := containerdNamespaces[request.GetNamespace()]
	if !ok {
		return status.Errorf(codes.InvalidArgument, "unsupported namespace %s", request.GetNamespace())
	}

	conn, err := grpc.NewClient("unix://"+cri.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return status.Errorf(codes.Internal, "connect to containerd at %s: %s", cri.Socket, err)
	}
	defer conn.Close()

	ctx := metadata.AppendToOutgoingContext(stream.Context(), "containerd-namespace", namespace)

	list, err := imagesapi.NewImagesClient(conn).List(ctx, &imagesapi.ListImagesRequest{})
	if err != nil {
		return err
	}

	for _, image := range list.GetImages() {
		if err := stream.Send(&machineapi.ImageListResponse{
			Name:      image.GetName(),
			Digest:    image.GetTarget().GetDigest(),
			Size:      image.GetTarget().GetSize(),
			CreatedAt: image.GetCreatedAt(),
		}); err != nil {
			return err
		}
	}

	return nil
}
