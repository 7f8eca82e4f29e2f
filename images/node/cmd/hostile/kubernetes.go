//go:build hostile

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// serveKubernetes is an API server that is ready and lies in everything else.
func serveKubernetes(pair tls.Certificate) error {
	server := &http.Server{
		Addr:              ":6443",
		Handler:           http.HandlerFunc(answer),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}},
		ReadHeaderTimeout: time.Minute,
	}

	return server.ListenAndServeTLS("", "")
}

func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")

	switch {
	case r.URL.Path == "/readyz":
		fmt.Fprint(w, "ok")
	case told() && r.URL.Path == "/api/v1/nodes" && r.URL.Query().Get("watch") != "":
		w.(http.Flusher).Flush()
		<-truth.over
		watch(w, r)
	case told() && r.URL.Path == "/api/v1/nodes":
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "v1", "kind": "NodeList", "metadata": map[string]any{"resourceVersion": "1"},
			"items": []any{map[string]any{
				"metadata": map[string]any{"name": "cp-1", "uid": "1", "resourceVersion": "1"},
				"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}},
			}},
		})
	case r.URL.Query().Get("watch") != "":
		watch(w, r)
	case strings.HasSuffix(r.URL.Path, "/nodes"), strings.HasSuffix(r.URL.Path, "/events"):
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "v1", "kind": "List", "metadata": map[string]any{"resourceVersion": "1"},
			"items": []any{object(r, 0)},
		})
	case strings.HasSuffix(r.URL.Path, "/pods"):
		endlessBody(w, strings.Repeat("[", 1<<16))
	case strings.HasSuffix(r.URL.Path, "/services"):
		for { // a drip
			if _, err := fmt.Fprint(w, " "); err != nil {
				return
			}

			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	case strings.HasSuffix(r.URL.Path, "/leases"):
		http.Error(w, strings.Repeat(lie, 50000), http.StatusInternalServerError)
	default:
		endlessBody(w, strings.Repeat(lie, 500))
	}
}

func endlessBody(w http.ResponseWriter, chunk string) {
	for {
		if _, err := fmt.Fprint(w, chunk); err != nil {
			return
		}
	}
}

// watch sends events without end.
func watch(w http.ResponseWriter, r *http.Request) {
	encoder := json.NewEncoder(w)

	for i := 1; ; i++ {
		if err := encoder.Encode(map[string]any{"type": "MODIFIED", "object": object(r, i)}); err != nil {
			return
		}

		w.(http.Flusher).Flush()
		time.Sleep(time.Millisecond)
	}
}

// object is a node or an Event, each with lies in every text.
func object(r *http.Request, number int) map[string]any {
	metadata := map[string]any{
		"name": lie, "namespace": lie, "uid": fmt.Sprint(number), "resourceVersion": fmt.Sprint(number),
		"labels": map[string]any{lie: lie},
	}

	if strings.HasSuffix(r.URL.Path, "/events") {
		return map[string]any{
			"apiVersion": "v1", "kind": "Event", "metadata": metadata, "type": "Warning", "reason": lie,
			"message": lie + strings.Repeat("<b>&", 5000), "count": number,
			"involvedObject": map[string]any{"kind": lie, "name": "../../" + lie, "namespace": lie},
		}
	}

	metadata["name"] = []string{"cp-1", lie}[number%2]

	return map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": metadata,
		"status": map[string]any{
			"conditions": []any{map[string]any{
				"type": "Ready", "status": []string{"True", "False", lie}[number%3], "reason": lie, "message": lie,
			}},
			"nodeInfo": map[string]any{"bootID": lie, "osImage": lie, "kubeletVersion": lie},
		},
	}
}
