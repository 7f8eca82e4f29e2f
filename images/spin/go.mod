module lab/images/spin

go 1.25.0

require github.com/tetratelabs/wazero v1.11.0

require (
	github.com/pelletier/go-toml/v2 v2.2.4 // indirect
	golang.org/x/sys v0.38.0 // indirect
)
