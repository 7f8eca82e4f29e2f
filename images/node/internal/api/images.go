package api

import (
	"context"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"lab/images/node/internal/cri"
)

// containerdNamespaces are containerd's names for the namespaces of the API. Talos has no default either.
var containerdNamespaces = map[common.ContainerdNamespace]string{
	common.ContainerdNamespace_NS_CRI:    constants.K8sContainerdNamespace,
	common.ContainerdNamespace_NS_SYSTEM: constants.SystemContainerdNamespace,
}

// dialContainerd connects to containerd; calls with the returned context are for one of its namespaces.
func dialContainerd(ctx context.Context, namespace string) (context.Context, *grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix://"+cri.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, status.Errorf(codes.Unavailable, "connect to containerd at %s: %s", cri.Socket, err)
	}

	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace), conn, nil
}

// listImages returns the container images of a namespace, as containerd has them.
func listImages(ctx context.Context, namespace common.ContainerdNamespace) ([]*imagesapi.Image, error) {
	name, ok := containerdNamespaces[namespace]
	if !ok {
		return nil, status.Errorf(codes.InvalidArgument, "unsupported namespace %s", namespace)
	}

	ctx, conn, err := dialContainerd(ctx, name)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	list, err := imagesapi.NewImagesClient(conn).List(ctx, &imagesapi.ListImagesRequest{})

	return list.GetImages(), err
}

// ImageList streams the container images of a namespace.
func (m *Machine) ImageList(request *machineapi.ImageListRequest, stream machineapi.MachineService_ImageListServer) error {
	list, err := listImages(stream.Context(), request.GetNamespace())
	if err != nil {
		return err
	}

	for _, image := range list {
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

// ImagePull pulls and unpacks an image for pods, by way of the CRI, which knows the mirrors of the machine config. There
// are no others: the node's own services are part of its image.
func (m *Machine) ImagePull(ctx context.Context, request *machineapi.ImagePullRequest) (*machineapi.ImagePullResponse, error) {
	if request.GetNamespace() != common.ContainerdNamespace_NS_CRI {
		return nil, status.Errorf(codes.InvalidArgument, "unsupported namespace %s", request.GetNamespace())
	}

	ctx, conn, err := dialContainerd(ctx, constants.K8sContainerdNamespace)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	client, image := criapi.NewImageServiceClient(conn), &criapi.ImageSpec{Image: request.GetReference()}

	// As in Talos, an image that is there is not pulled again.
	if there, err := client.ImageStatus(ctx, &criapi.ImageStatusRequest{Image: image}); err != nil || there.GetImage() == nil {
		if _, err := client.PullImage(ctx, &criapi.PullImageRequest{Image: image}); err != nil {
			return nil, err
		}
	}

	return &machineapi.ImagePullResponse{Messages: []*machineapi.ImagePull{{}}}, nil
}

// images implements the image service, which Talos has since v1.13: the list.
type images struct {
	machineapi.UnimplementedImageServiceServer
}

// List streams the container images of a namespace.
func (images) List(request *machineapi.ImageServiceListRequest, stream machineapi.ImageService_ListServer) error {
	list, err := listImages(stream.Context(), request.GetContainerd().GetNamespace())
	if err != nil {
		return err
	}

	for _, image := range list {
		if err := stream.Send(&machineapi.ImageServiceListResponse{
			Name:      image.GetName(),
			Digest:    image.GetTarget().GetDigest(),
			Size:      image.GetTarget().GetSize(),
			CreatedAt: image.GetCreatedAt(),
			Labels:    image.GetLabels(),
		}); err != nil {
			return err
		}
	}

	return nil
}
