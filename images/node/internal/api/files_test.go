package api

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sent collects what a call streams.
type sent[T any] struct {
	grpc.ServerStream
	messages []*T
}

func (s *sent[T]) Send(m *T) error {
	s.messages = append(s.messages, m)

	return nil
}

func TestReadStreamsAFileInChunks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), chunk/16+1)

	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}

	stream := &sent[common.Data]{}
	if err := (&Machine{}).Read(&machineapi.ReadRequest{Path: path}, stream); err != nil {
		t.Fatal(err)
	}

	var got []byte
	for _, m := range stream.messages {
		got = append(got, m.GetBytes()...)
	}

	if len(stream.messages) != 2 || !bytes.Equal(got, content) {
		t.Fatalf("%d messages, %d bytes", len(stream.messages), len(got))
	}
}

func TestReadRefusesWhatIsNoFile(t *testing.T) {
	for path, want := range map[string]codes.Code{
		"relative":                       codes.InvalidArgument,
		t.TempDir():                      codes.InvalidArgument,
		"/dev/zero":                      codes.InvalidArgument,
		filepath.Join(t.TempDir(), "no"): codes.NotFound,
	} {
		if got := status.Code((&Machine{}).Read(&machineapi.ReadRequest{Path: path}, &sent[common.Data]{})); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/sub/deep", 0o755); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{"/file", "/sub/inner", "/sub/deep/inmost"} {
		if err := os.WriteFile(dir+name, []byte("content"), 0o640); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Symlink("file", dir+"/link"); err != nil {
		t.Fatal(err)
	}

	list := func(request *machineapi.ListRequest) (names []string, all map[string]*machineapi.FileInfo) {
		t.Helper()

		request.Root = dir
		stream := &sent[machineapi.FileInfo]{}

		if err := (&Machine{}).List(request, stream); err != nil {
			t.Fatal(err)
		}

		all = map[string]*machineapi.FileInfo{}
		for _, m := range stream.messages {
			names = append(names, m.GetRelativeName())
			all[m.GetRelativeName()] = m
		}

		return names, all
	}

	names, all := list(&machineapi.ListRequest{})
	if !slices.Equal(names, []string{".", "file", "link", "sub"}) {
		t.Errorf("one level: %q", names)
	}

	if f := all["file"]; f.GetSize() != 7 || os.FileMode(f.GetMode()).Perm() != 0o640 || f.GetName() != dir+"/file" || all["link"].GetLink() != "file" || !all["sub"].GetIsDir() {
		t.Errorf("%v %v", f, all["link"])
	}

	if names, _ := list(&machineapi.ListRequest{Recurse: true, RecursionDepth: 2}); !slices.Equal(names, []string{".", "file", "link", "sub", "sub/deep", "sub/inner"}) {
		t.Errorf("two levels: %q", names)
	}

	if names, _ := list(&machineapi.ListRequest{Recurse: true, Types: []machineapi.ListRequest_Type{machineapi.ListRequest_REGULAR}}); !slices.Equal(names, []string{"file", "sub/deep/inmost", "sub/inner"}) {
		t.Errorf("files only: %q", names)
	}

	if err := (&Machine{}).List(&machineapi.ListRequest{Root: dir + "/no"}, &sent[machineapi.FileInfo]{}); status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
}
