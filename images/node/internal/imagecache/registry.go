package imagecache

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/constants"
)

// Serve answers containerd on the loopback interface until the context ends.
func Serve(ctx context.Context) error {
	root, err := os.OpenRoot(Root)
	if err != nil {
		return err
	}
	defer root.Close()

	var lc net.ListenConfig

	listener, err := lc.Listen(ctx, "tcp", constants.RegistrydListenAddress)
	if err != nil {
		return err
	}

	server := &http.Server{Handler: Handler(root.FS()), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })

	defer stop()

	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}

	return nil
}

// The grammar of the OCI distribution specification v1.1, "Pulling manifests"; a registry's port is not among it,
// because a FAT file system has no colons.
var (
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	registryPattern   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
	tagPattern        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	digestPattern     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Handler answers the pull side of the distribution specification; `ns` names the registry that the image is of.
func Handler(root fs.FS) http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

	mux.HandleFunc("GET /v2/{$}", ok)
	mux.HandleFunc("GET /healthz", ok)
	mux.HandleFunc("GET /v2/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		rest := r.PathValue("rest")
		before, last := path.Split(rest)

		if repository, found := strings.CutSuffix(before, "/manifests/"); found {
			manifest(w, r, root, repository, last)
		} else if strings.HasSuffix(before, "/blobs/") && digestPattern.MatchString(last) {
			content(w, r, root, "blob/"+fileName(last), last, "application/octet-stream")
		} else {
			http.NotFound(w, r)
		}
	})

	return mux
}

// fileName is the name of a digest's file: FAT allows no colons.
func fileName(digest string) string { return strings.Replace(digest, ":", "-", 1) }

func manifest(w http.ResponseWriter, r *http.Request, root fs.FS, repository, reference string) {
	registry := r.URL.Query().Get("ns")
	if !registryPattern.MatchString(registry) || !repositoryPattern.MatchString(repository) {
		http.NotFound(w, r)

		return
	}

	directory := path.Join("manifests", registry, repository)

	digest := reference
	if tagPattern.MatchString(reference) {
		// The file of a tag holds the manifest itself, as the digest's file does; Talos compares the two.
		text, err := fs.ReadFile(root, path.Join(directory, "reference", reference))
		if err != nil {
			http.NotFound(w, r)

			return
		}

		digest = digestOf(text)
	}

	if !digestPattern.MatchString(digest) {
		http.NotFound(w, r)

		return
	}

	name := path.Join(directory, "digest", fileName(digest))

	text, err := fs.ReadFile(root, name)
	if err != nil {
		http.NotFound(w, r)

		return
	}

	var kind struct {
		MediaType string `json:"mediaType"`
	}

	if err := json.Unmarshal(text, &kind); err != nil || kind.MediaType == "" || digestOf(text) != digest {
		http.Error(w, "the image cache's "+name+" is damaged", http.StatusInternalServerError)

		return
	}

	content(w, r, root, name, digest, kind.MediaType)
}

func content(w http.ResponseWriter, r *http.Request, root fs.FS, name, digest, mediaType string) {
	f, err := root.Open(name)
	if err != nil {
		http.NotFound(w, r)

		return
	}
	defer f.Close()

	file, ok := f.(*os.File)
	if !ok {
		http.Error(w, name+" is no file", http.StatusInternalServerError)

		return
	}

	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Type", mediaType)
	http.ServeContent(w, r, "", time.Time{}, file)
}

func digestOf(text []byte) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(text))
}
