package imagecache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const manifestText = `{"mediaType":"application/vnd.oci.image.manifest.v1+json"}`

// cache makes a cache of one image, one blob and one damaged manifest.
func cache(t *testing.T) *httptest.Server {
	t.Helper()

	dir := t.TempDir()
	digest := fileName(digestOf([]byte(manifestText)))

	for name, text := range map[string]string{
		"blob/" + fileName(digestOf([]byte("layer"))):        "layer",
		"manifests/lab.local/a/b/reference/v1":               manifestText,
		"manifests/lab.local/a/b/digest/" + digest:           manifestText,
		"manifests/lab.local/a/bad/digest/sha256-" + zeros64: manifestText,
		"secret": "outside of what is served",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { root.Close() })

	server := httptest.NewServer(Handler(root.FS()))
	t.Cleanup(server.Close)

	return server
}

var zeros64 = strings.Repeat("0", 64)

func TestImagesAreFoundByTagAndByDigest(t *testing.T) {
	server := cache(t)
	digest := digestOf([]byte(manifestText))

	for path, want := range map[string]string{
		"/v2/a/b/manifests/v1?ns=lab.local":                              manifestText,
		"/v2/a/b/manifests/" + digest + "?ns=lab.local":                  manifestText,
		"/v2/a/b/blobs/" + digestOf([]byte("layer")) + "?ns=lab.local":   "layer",
		"/v2/any/blobs/" + digestOf([]byte("layer")) + "?ns=example.org": "layer",
	} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}

		text, _ := io.ReadAll(response.Body)
		response.Body.Close()

		if response.StatusCode != http.StatusOK || string(text) != want {
			t.Errorf("%s: %s %q", path, response.Status, text)
		}

		if got := response.Header.Get("Docker-Content-Digest"); got != digestOf([]byte(want)) {
			t.Errorf("%s: digest %q", path, got)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	server := cache(t)

	for path, want := range map[string]int{
		"/v2/a/b/manifests/v2?ns=lab.local":                              http.StatusNotFound,
		"/v2/a/b/manifests/v1?ns=example.org":                            http.StatusNotFound,
		"/v2/a/b/manifests/v1":                                           http.StatusNotFound,
		"/v2/a/b/manifests/v1?ns=..":                                     http.StatusNotFound,
		"/v2/a/b/blobs/sha256:" + zeros64:                                http.StatusNotFound,
		"/v2/a/b/blobs/..%2f..%2fsecret":                                 http.StatusNotFound,
		"/v2/a/b/tags/list?ns=lab.local":                                 http.StatusNotFound,
		"/v2/a/bad/manifests/sha256:" + zeros64 + "?ns=lab.local":        http.StatusInternalServerError,
		"/v2/../../secret/manifests/sha256:" + zeros64 + "?ns=lab.local": http.StatusNotFound,
		"/v2/A/B/manifests/v1?ns=lab.local":                              http.StatusNotFound,
	} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}

		response.Body.Close()

		if response.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, response.Status, want)
		}
	}
}

func TestTheDiskIsFoundByItsLabel(t *testing.T) {
	sys, dev := t.TempDir(), t.TempDir()

	sector := func(label, kind int, name string) []byte {
		s := make([]byte, 512)
		copy(s[label:], name+strings.Repeat(" ", 11-len(name)))
		copy(s[kind:], "FAT32   ")
		s[510], s[511] = 0x55, 0xaa

		return s
	}

	for name, content := range map[string][]byte{
		"vda": make([]byte, 4096),
		"vdb": sector(71, 82, "OTHER"),
		"vdc": sector(71, 82, "TALOS_LAB"),
	} {
		if err := os.Mkdir(filepath.Join(sys, name), 0o755); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(filepath.Join(dev, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	got, err := find(sys, dev)
	if err != nil || got != filepath.Join(dev, "vdc") {
		t.Errorf("found %q: %v", got, err)
	}

	if err := os.Remove(filepath.Join(sys, "vdc")); err != nil {
		t.Fatal(err)
	}

	if _, err := find(sys, dev); err != ErrNone {
		t.Errorf("without the disk: %v", err)
	}
}
