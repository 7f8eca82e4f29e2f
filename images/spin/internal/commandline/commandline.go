// Package commandline reads the part of an OCI runtime's command line that the front has to know: where errors go, which
// command is asked for and on which bundle. The form is runc's, as containerd's shim writes it through go-runc.
package commandline

import "strings"

// Invocation is what a command line asks for. Flags that the front has no use for are not kept: the whole line goes to
// runc unchanged.
type Invocation struct {
	// Command is create, start, state, …; empty when the line holds flags alone (--version).
	Command string
	// Bundle is the folder of config.json, "." unless --bundle says otherwise, as in runc.
	Bundle string
	// Log is the file for errors, empty for none.
	Log string
	// LogFormat is text, the default, or json.
	LogFormat string
}

// globalValues are runc's flags before the command that take a value. The others are switches.
var globalValues = map[string]bool{"root": true, "log": true, "log-format": true, "rootless": true, "criu": true}

// commandValues are the flags of create and run that take a value.
var commandValues = map[string]bool{
	"bundle": true, "b": true, "console-socket": true, "pidfd-socket": true, "pid-file": true, "preserve-fds": true,
}

// Parse reads the arguments that follow the program's name.
func Parse(args []string) Invocation {
	invocation := Invocation{Bundle: ".", LogFormat: "text"}
	rest := each(args, globalValues, func(name, value string) {
		switch name {
		case "log":
			invocation.Log = value
		case "log-format":
			invocation.LogFormat = value
		}
	})

	if len(rest) == 0 {
		return invocation
	}

	invocation.Command = rest[0]
	each(rest[1:], commandValues, func(name, value string) {
		if name == "bundle" || name == "b" {
			invocation.Bundle = value
		}
	})

	return invocation
}

// each calls found for the flags that args begin with and returns what follows them.
func each(args []string, takesValue map[string]bool, found func(name, value string)) []string {
	for len(args) > 0 {
		flag := args[0]
		if flag == "--" {
			return args[1:]
		}

		if len(flag) < 2 || flag[0] != '-' {
			return args
		}

		args = args[1:]
		name, value, attached := strings.Cut(strings.TrimLeft(flag, "-"), "=")

		if !attached && takesValue[name] && len(args) > 0 {
			value, args = args[0], args[1:]
		}

		found(name, value)
	}

	return nil
}
