package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"lab/images/node/internal/kube"
)

// etcdAddress is the client port of the node's own etcd.
const etcdAddress = "127.0.0.1:2379"

// etcd connects to the node's own etcd as its administrator. Workers have none.
func (m *Machine) etcd(what string) (*grpc.ClientConn, error) {
	if !m.Node.IsControlPlane() {
		return nil, status.Errorf(codes.Unimplemented, "%s is only available on control plane nodes", what)
	}

	dir := kube.SecretsDir + "etcd/"

	pair, err := tls.LoadX509KeyPair(dir+"admin.crt", dir+"admin.key")
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "failed to create etcd client: %s", err)
	}

	ca, err := os.ReadFile(dir + "ca.crt")
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "failed to create etcd client: %s", err)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)

	return grpc.NewClient(etcdAddress, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12, CurvePreferences: curves,
	})))
}

// EtcdMemberList lists the members of etcd.
func (m *Machine) EtcdMemberList(ctx context.Context, _ *machineapi.EtcdMemberListRequest) (*machineapi.EtcdMemberListResponse, error) {
	conn, err := m.etcd("member list")
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	list, err := etcdserverpb.NewClusterClient(conn).MemberList(ctx, &etcdserverpb.MemberListRequest{Linearizable: true})
	if err != nil {
		return nil, err
	}

	out := &machineapi.EtcdMembers{}

	for _, member := range list.GetMembers() {
		out.LegacyMembers = append(out.LegacyMembers, member.GetName())
		out.Members = append(out.Members, &machineapi.EtcdMember{
			Id: member.GetID(), Hostname: member.GetName(),
			PeerUrls: member.GetPeerURLs(), ClientUrls: member.GetClientURLs(), IsLearner: member.GetIsLearner(),
		})
	}

	return &machineapi.EtcdMemberListResponse{Messages: []*machineapi.EtcdMembers{out}}, nil
}

// EtcdStatus tells the state of the node's own member.
func (m *Machine) EtcdStatus(ctx context.Context, _ *emptypb.Empty) (*machineapi.EtcdStatusResponse, error) {
	conn, err := m.etcd("etcd status")
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	answer, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("failed to query etcd status: %w", err)
	}

	return &machineapi.EtcdStatusResponse{Messages: []*machineapi.EtcdStatus{{MemberStatus: &machineapi.EtcdMemberStatus{
		MemberId: answer.GetHeader().GetMemberId(), ProtocolVersion: answer.GetVersion(), StorageVersion: answer.GetStorageVersion(),
		DbSize: answer.GetDbSize(), DbSizeInUse: answer.GetDbSizeInUse(), Leader: answer.GetLeader(),
		RaftIndex: answer.GetRaftIndex(), RaftTerm: answer.GetRaftTerm(), RaftAppliedIndex: answer.GetRaftAppliedIndex(),
		Errors: answer.GetErrors(), IsLearner: answer.GetIsLearner(),
	}}}}, nil
}

// EtcdAlarmList lists the alarms of etcd.
func (m *Machine) EtcdAlarmList(ctx context.Context, _ *emptypb.Empty) (*machineapi.EtcdAlarmListResponse, error) {
	conn, err := m.etcd("etcd alarm list")
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	answer, err := etcdserverpb.NewMaintenanceClient(conn).Alarm(ctx, &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_GET})
	if err != nil {
		return nil, fmt.Errorf("failed to list etcd alarms: %w", err)
	}

	out := &machineapi.EtcdAlarm{}

	for _, alarm := range answer.GetAlarms() {
		kind := machineapi.EtcdMemberAlarm_AlarmType_value[alarm.GetAlarm().String()] // the same names
		out.MemberAlarms = append(out.MemberAlarms, &machineapi.EtcdMemberAlarm{
			MemberId: alarm.GetMemberID(), Alarm: machineapi.EtcdMemberAlarm_AlarmType(kind),
		})
	}

	return &machineapi.EtcdAlarmListResponse{Messages: []*machineapi.EtcdAlarm{out}}, nil
}
