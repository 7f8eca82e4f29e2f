package kube

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/template"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"go.yaml.in/yaml/v4"

	"lab/images/node/internal/console"
)

//go:embed manifests/*.yaml
var manifestFiles embed.FS

// Object is a Kubernetes object as JSON data.
type Object map[string]any

// Manifests renders the objects of a bootstrap in two groups: what nodes need to join, and everything else.
func Manifests(cfg config.Config) (join, rest []Object, err error) {
	cluster := cfg.Cluster()
	values := map[string]string{
		"TokenID":     cluster.Token().ID(),
		"TokenSecret": cluster.Token().Secret(),
		"Domain":      cluster.Network().DNSDomain(),
		"Image":       cluster.CoreDNS().Image(),
	}

	if join, err = render("join", values); err != nil {
		return nil, nil, err
	}

	if rest, err = render("system", values); err != nil {
		return nil, nil, err
	}

	if cluster.CoreDNS().Enabled() {
		ips, err := cluster.Network().DNSServiceIPs()
		if err != nil || len(ips) == 0 {
			return nil, nil, fmt.Errorf("the DNS service address of cluster.network.serviceSubnets: %w", err)
		}

		values["DNSIP"] = ips[0].String()

		dns, err := render("coredns", values)
		if err != nil {
			return nil, nil, err
		}

		rest = append(rest, dns...)
	}

	for _, inline := range cluster.InlineManifests() {
		objects, err := decodeAll([]byte(inline.Contents()))
		if err != nil {
			return nil, nil, fmt.Errorf("cluster.inlineManifests %q: %w", inline.Name(), err)
		}

		rest = append(rest, objects...)
	}

	return join, rest, nil
}

func render(name string, values map[string]string) ([]Object, error) {
	t, err := template.New(name+".yaml").Option("missingkey=error").ParseFS(manifestFiles, "manifests/"+name+".yaml")
	if err != nil {
		return nil, err
	}

	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return nil, err
	}

	return decodeAll(out.Bytes())
}

func decodeAll(content []byte) ([]Object, error) {
	var objects []Object

	decoder := yaml.NewDecoder(bytes.NewReader(content))

	for {
		var o Object

		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}

		if err != nil {
			return nil, err
		}

		if o != nil {
			objects = append(objects, o)
		}
	}
}

func (o Object) text(path ...string) string {
	var value any = map[string]any(o)

	for _, key := range path {
		switch m := value.(type) {
		case map[string]any:
			value = m[key]
		case Object:
			value = m[key]
		default:
			return ""
		}
	}

	s, _ := value.(string)

	return s
}

// Name names an object for people: Kind namespace/name.
func (o Object) Name() string {
	name := o.text("metadata", "name")
	if ns := o.text("metadata", "namespace"); ns != "" {
		name = ns + "/" + name
	}

	return o.text("kind") + " " + name
}

// resourceNames of kinds whose plural is not the kind with an s.
var resourceNames = map[string]string{
	"NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "StorageClass": "storageclasses", "PriorityClass": "priorityclasses",
	"IngressClass": "ingressclasses", "RuntimeClass": "runtimeclasses", "Endpoints": "endpoints",
}

// Path is the object's address in the API.
func (o Object) Path() string {
	group, version, found := strings.Cut(o.text("apiVersion"), "/")
	base := "/apis/" + group + "/" + version

	if !found {
		base = "/api/" + group
	}

	if ns := o.text("metadata", "namespace"); ns != "" {
		base += "/namespaces/" + ns
	}

	plural, ok := resourceNames[o.text("kind")]
	if !ok {
		plural = strings.ToLower(o.text("kind")) + "s"
	}

	return base + "/" + plural + "/" + o.text("metadata", "name")
}

// applyAttempts bounds how often one object is tried: a namespace or kind may come up a moment later.
const applyAttempts = 60

// Apply applies objects one after the other with server-side apply. An object that the server refuses for good is
// said and passed over, so that one bad inline manifest does not keep a cluster from forming.
func Apply(ctx context.Context, c *Client, objects []Object) error {
	var failed []error

	for _, o := range objects {
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}

		for attempt := 1; ; attempt++ {
			err = c.Do(ctx, http.MethodPatch, o.Path()+"?fieldManager=talos&force=true", "application/apply-patch+yaml", body, nil)
			if err == nil || ctx.Err() != nil || attempt == applyAttempts || IsStatus(err, http.StatusUnprocessableEntity) || IsStatus(err, http.StatusBadRequest) {
				break
			}

			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}

		if err != nil {
			console.Printf("manifest %s was not applied: %v", o.Name(), err)
			failed = append(failed, fmt.Errorf("apply %s: %w", o.Name(), err))
		}
	}

	return errors.Join(failed...)
}
