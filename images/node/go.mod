module lab/images/node

go 1.26.6

// machinery's own replacement (its fork adds missing calls); replacements do not travel with a dependency.
replace github.com/mdlayher/ethtool => github.com/siderolabs/ethtool v0.4.0-sidero

require (
	go.yaml.in/yaml/v4 v4.0.0-rc.4
	golang.org/x/sys v0.45.0
)
