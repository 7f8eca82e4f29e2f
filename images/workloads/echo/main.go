// Command echo is the lab's network check workload. It answers for itself over HTTP, TCP and UDP,
// and makes requests and look-ups on behalf of the lab, so that packets take the way that a
// workload's packets take.
//
//	GET  /             who answered and whom it saw, as JSON
//	GET  /healthz      200 when serving
//	GET  /bytes?n=N    N bytes, at most 64 MiB
//	POST /echo         the request's body
//	GET  /probe?url=U  the outcome of an HTTP GET of U made from here, as JSON
//	GET  /resolve?name=N  the outcome of a DNS look-up made from here, as JSON
//	GET  /scan?protocol=P&host=H&first=A&last=B  what the ports of H do when they are asked from here, as JSON
//
// TCP and UDP port 7007 echo what they get.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	httpAddress = ":8080"
	echoAddress = ":7007"
	// maxBytes bounds /bytes, /echo and how long a probed body may be.
	maxBytes = 64 << 20
	// probeBody is how much of a probed body is reported.
	probeBody = 4 << 10
	// askLimit bounds each request or look-up made for the lab.
	askLimit = 5 * time.Second
)

// identity is what the answering pod says of itself and of its caller.
type identity struct {
	Node   string `json:"node"`
	Pod    string `json:"pod"`
	PodIP  string `json:"podIP"`
	Client string `json:"client"`
	Host   string `json:"host"`
}

// probe is the outcome of an HTTP request made from here.
type probe struct {
	Status       int     `json:"status"`
	Body         string  `json:"body"`
	Bytes        int64   `json:"bytes"`
	Error        string  `json:"error"`
	Milliseconds float64 `json:"milliseconds"`
}

// resolution is the outcome of a DNS look-up made from here.
type resolution struct {
	Addresses    []string `json:"addresses"`
	Error        string   `json:"error"`
	Milliseconds float64  `json:"milliseconds"`
}

func main() {
	if err := serveEcho(); err != nil {
		log.Fatalf("echo: %v", err)
	}
	log.Fatalf("echo: %v", http.ListenAndServe(httpAddress, routes()))
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, identity{
			Node:   os.Getenv("NODE_NAME"),
			Pod:    os.Getenv("POD_NAME"),
			PodIP:  os.Getenv("POD_IP"),
			Client: r.RemoteAddr,
			Host:   r.Host,
		})
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})
	mux.HandleFunc("GET /bytes", serveBytes)
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, http.MaxBytesReader(w, r.Body, maxBytes))
	})
	mux.HandleFunc("GET /probe", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, probeURL(r.Context(), r.URL.Query().Get("url")))
	})
	mux.HandleFunc("GET /scan", serveScan)
	mux.HandleFunc("GET /resolve", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, resolve(r.Context(), r.URL.Query().Get("name")))
	})
	return mux
}

func serveBytes(w http.ResponseWriter, r *http.Request) {
	count, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil || count < 0 || count > maxBytes {
		http.Error(w, "n must be a number of bytes, at most 67108864", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(count, 10))
	_, _ = io.CopyN(w, zeros{}, count)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func probeURL(ctx context.Context, url string) probe {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	started := time.Now()
	result := probe{}
	defer func() { result.Milliseconds = milliseconds(started) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	// A connection of its own each time, so that a service picks a backend anew.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		result.Error = err.Error()
		return result
	}
	defer response.Body.Close()
	result.Status = response.StatusCode
	head, err := io.ReadAll(io.LimitReader(response.Body, probeBody))
	result.Body, result.Bytes = string(head), int64(len(head))
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, io.LimitReader(response.Body, maxBytes))
		result.Bytes += rest
	}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

func resolve(ctx context.Context, name string) resolution {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	started := time.Now()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	result := resolution{Addresses: addresses, Milliseconds: milliseconds(started)}
	if err != nil {
		result.Error = err.Error()
	}
	return result
}

func milliseconds(since time.Time) float64 {
	return float64(time.Since(since).Microseconds()) / 1000
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// serveEcho opens the TCP and UDP echo ports and serves them in the background.
func serveEcho() error {
	listener, err := net.Listen("tcp", echoAddress)
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", echoAddress)
	if err != nil {
		return err
	}
	go echoStreams(listener)
	go echoPackets(packets)
	return nil
}

func echoStreams(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() {
			defer connection.Close()
			_, _ = io.Copy(connection, connection)
		}()
	}
}

func echoPackets(packets net.PacketConn) {
	buffer := make([]byte, 64<<10)
	for {
		length, from, err := packets.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = packets.WriteTo(buffer[:length], from)
		}
	}
}
