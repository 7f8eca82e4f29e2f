package kube

// This file holds every choice that is made for speed and departs from what Talos does. Under emulation the guest's
// CPU is the scarce resource: a 3-node cluster shares two host cores. Each flag can be set back with the machine
// config's extraArgs; the kernel argument lab.speed.components=off switches all of them off.

// speedFlags by component.
var speedFlags = map[string]map[string]string{
	"kube-apiserver": {
		// The fair queue costs a goroutine hand-over a request and a dozen objects to create at start; one lab cluster
		// cannot overload its API server in a way that queues would mend.
		"enable-priority-and-fairness": "false",
		// The API server opens about a hundred connections to etcd. Over a socket that only root reaches they need no
		// TLS, which saves a hundred handshakes with client certificates on both sides.
		"etcd-servers": "unix://" + etcdSocket,
	},
	"kube-controller-manager": {
		// With one control plane there is nobody to elect, and taking the lease costs several round trips at start.
		"leader-elect": "false",
		// Otherwise each of thirty controllers asks for a token of its own (an RSA signature that takes a tenth of a
		// second here) and makes its own connections. The certificate has the group system:masters instead.
		"use-service-account-credentials": "false",
		// The default of 20 requests a second is meant for large clusters that share an API server.
		"kube-api-qps":   "100",
		"kube-api-burst": "200",
		// Without this a look-up while the API server is not complete ends the process.
		"authentication-tolerate-lookup-failure": "true",
	},
	"kube-scheduler": {
		"leader-elect":                           "false",
		"authentication-tolerate-lookup-failure": "true",
	},
	"etcd": {
		// The disk image of a lab node is thrown away with the lab and lives in the host's page cache: syncing every
		// write protects from nothing but a crash of the guest kernel. The ext4 journal keeps the files consistent.
		"unsafe-no-fsync": "true",
		// For the API server of this node, see above; clients from elsewhere keep the port with TLS.
		"listen-client-urls":  "https://0.0.0.0:2379,unix://" + etcdSocket,
		"enable-grpc-gateway": "false",
	},
}

// singleMemberOnly are the flags that must not be used when the control plane has several nodes.
var singleMemberOnly = map[string][]string{
	"kube-controller-manager": {"leader-elect"},
	"kube-scheduler":          {"leader-elect"},
}

// ComponentEnv is the environment of the Kubernetes components.
//
// GODEBUG tlsmlkem=0: the hybrid post-quantum key exchange triples the cost of a handshake; asyncpreemptoff=1: under
// emulation a goroutine is interrupted by a signal all the time, for nearly everything takes over ten milliseconds. GOGC=400 with a limit:
// garbage collection takes a fifth of the start of an API server at the default of 100; the limit keeps a small node
// from running out of memory.
func ComponentEnv(speed bool, memoryLimit string, extra map[string]string) []string {
	env := map[string]string{"PATH": "/usr/sbin:/usr/bin", "HOME": "/root"}

	if speed {
		env["GODEBUG"] = "tlsmlkem=0,asyncpreemptoff=1"
		env["GOGC"] = "400"
		env["GOMEMLIMIT"] = memoryLimit
	}

	for k, v := range extra {
		env[k] = v
	}

	return environ(env)
}

// CPUWeights order the components of a control plane while the cluster forms: everything waits for the API server and
// its store, so what is not on that path gets what they leave. When the CPU is not contended they change nothing.
var CPUWeights = map[string]int{
	"/podruntime/etcd":                    800,
	"/podruntime/kube-apiserver":          800,
	"/podruntime/kube-controller-manager": 400,
	"/podruntime/runtime":                 100,
	"/podruntime/kubelet":                 800, // starts when the API server is ready, and is next on the path
	"/podruntime/kube-scheduler":          50,
	"/podruntime/kube-proxy":              50,
}

// MemoryLimits are soft limits of each component's heap (GOMEMLIMIT) for nodes with 1.5 to 2 GiB.
var MemoryLimits = map[string]string{
	"kube-apiserver":          "600MiB",
	"kube-controller-manager": "160MiB",
	"kube-scheduler":          "100MiB",
	"etcd":                    "200MiB",
	"kubelet":                 "200MiB",
	"kube-proxy":              "100MiB",
	"containerd":              "150MiB",
}

// applySpeed lays the choices for a component over its flags.
func applySpeed(component string, f Flags, n Node) {
	if !n.Speed {
		return
	}

	f.set(speedFlags[component])

	if component == "kube-apiserver" { // with these set its client would want TLS on the socket too
		delete(f, "etcd-cafile")
		delete(f, "etcd-certfile")
		delete(f, "etcd-keyfile")
	}

	if n.ControlPlanes > 1 {
		for _, name := range singleMemberOnly[component] {
			delete(f, name)
		}
	}
}
