package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// scanners is how many ports are asked at once.
	scanners = 64
	// scanPatience is how long a port may be silent.
	scanPatience = 2 * time.Second
	// scanLimit bounds a whole request.
	scanLimit = 10 * time.Minute
)

// scan is what the ports of a host did.
type scan struct {
	// Open lists the ports that took a connection or answered a datagram.
	Open []int `json:"open"`
	// Silent lists the ports that did nothing.
	Silent []int `json:"silent"`
	// Refused counts the ports that refused, by the reason that the network gave.
	Refused map[string]int `json:"refused"`
}

func serveScan(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	protocol, host := query.Get("protocol"), query.Get("host")
	first, err := port(query.Get("first"))
	last, err2 := port(query.Get("last"))
	if err = errors.Join(err, err2); err != nil || (protocol != "tcp" && protocol != "udp") {
		http.Error(w, "protocol must be tcp or udp, first and last ports of 1 to 65535", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), scanLimit)
	defer cancel()
	writeJSON(w, scanPorts(ctx, protocol, host, first, last))
}

func port(text string) (int, error) {
	number, err := strconv.ParseUint(text, 10, 16)
	if err == nil && number == 0 {
		err = strconv.ErrRange
	}
	return int(number), err
}

// scanPorts asks each port from first to last once.
func scanPorts(ctx context.Context, protocol, host string, first, last int) scan {
	ports := make(chan int)
	result := scan{Open: []int{}, Silent: []int{}, Refused: map[string]int{}}
	var lock sync.Mutex
	var group sync.WaitGroup
	for range scanners {
		group.Go(func() {
			for number := range ports {
				err := knock(ctx, protocol, net.JoinHostPort(host, strconv.Itoa(number)))
				lock.Lock()
				switch {
				case err == nil:
					result.Open = append(result.Open, number)
				case isTimeout(err):
					result.Silent = append(result.Silent, number)
				default:
					result.Refused[reason(err)]++
				}
				lock.Unlock()
			}
		})
	}
	for number := first; number <= last; number++ {
		ports <- number
	}
	close(ports)
	group.Wait()
	slices.Sort(result.Open)
	slices.Sort(result.Silent)
	return result
}

// knock connects to an address, and waits for an answer if that alone asks nothing.
func knock(ctx context.Context, protocol, address string) error {
	dialer := net.Dialer{Timeout: scanPatience}
	connection, err := dialer.DialContext(ctx, protocol, address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if protocol == "tcp" {
		return nil
	}
	if err := connection.SetDeadline(time.Now().Add(scanPatience)); err != nil {
		return err
	}
	if _, err := connection.Write([]byte{0}); err != nil {
		return err
	}
	_, err = connection.Read(make([]byte, 1))
	return err
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err)
}

// reason is the error of the system, without addresses, so that equal ones can be counted.
func reason(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return err.Error()
}
