package machine

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"

	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configdiff"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lab/images/node/internal/console"
	"lab/images/node/internal/cri"
	"lab/images/node/internal/disk"
	"lab/images/node/internal/imagecache"
	"lab/images/node/internal/kernel"
)

// metal is the runtime mode that machinery validates for: an installed machine.
type metal struct{}

func (metal) String() string        { return "metal" }
func (metal) RequiresInstall() bool { return false }
func (metal) InContainer() bool     { return false }

type applyMode = machineapi.ApplyConfigurationRequest_Mode

// ApplyConfiguration validates a config with machinery and applies it. In maintenance mode the boot goes on with it.
func (m *Machine) ApplyConfiguration(ctx context.Context, request *machineapi.ApplyConfigurationRequest, admin bool) (*machineapi.ApplyConfiguration, error) {
	maintenance := !m.configured.IsOpen()

	if !maintenance && !admin {
		return nil, status.Error(codes.PermissionDenied, "not authorized")
	}

	if maintenance {
		switch request.GetMode() {
		case machineapi.ApplyConfigurationRequest_AUTO, machineapi.ApplyConfigurationRequest_REBOOT, machineapi.ApplyConfigurationRequest_TRY:
		default:
			return nil, status.Errorf(codes.Unimplemented, "apply configuration --mode=%q is not supported in maintenance mode", request.GetMode())
		}
	}

	provider, err := configloader.NewFromBytes(request.GetData())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	if provider.RawV1Alpha1() == nil {
		return nil, status.Error(codes.InvalidArgument, "the applied machine configuration doesn't contain v1alpha1 config")
	}

	warnings, err := provider.Validate(metal{})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	more, err := provider.RuntimeValidate(ctx, m.store.State, metal{})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	if !provider.CompleteForBoot() {
		return nil, status.Error(codes.InvalidArgument, "the machine configuration is not complete enough to boot with")
	}

	result := &machineapi.ApplyConfiguration{Warnings: slices.Concat(warnings, more)}

	if maintenance {
		return result, m.applyFirst(request, provider, result)
	}

	return result, m.applyChange(request, provider, result)
}

// applyFirst takes the config that ends maintenance mode. It is stored on STATE once that partition exists.
func (m *Machine) applyFirst(request *machineapi.ApplyConfigurationRequest, provider config.Provider, result *machineapi.ApplyConfiguration) error {
	result.Mode = machineapi.ApplyConfigurationRequest_NO_REBOOT
	result.ModeDetails = "Applied configuration without a reboot"

	if request.GetDryRun() {
		result.ModeDetails = "Dry run summary:\nThe configuration is valid and would be applied (skipped in dry-run).\nNode is running in maintenance mode and does not have a config yet."

		return nil
	}

	m.mu.Lock()
	if m.cfg != nil {
		m.mu.Unlock()

		return status.Error(codes.FailedPrecondition, "another configuration was applied a moment ago")
	}

	m.cfg = provider
	m.mu.Unlock()

	console.Printf("apply config request: mode %s", request.GetMode())
	m.configured.Open()

	return nil
}

// applyChange takes a changed config on a node that runs.
func (m *Machine) applyChange(request *machineapi.ApplyConfigurationRequest, provider config.Provider, result *machineapi.ApplyConfiguration) error {
	current := m.config()
	obstacle := immediateObstacle(current, provider)
	mode := request.GetMode()

	switch mode {
	case machineapi.ApplyConfigurationRequest_AUTO:
		mode = machineapi.ApplyConfigurationRequest_NO_REBOOT
		if obstacle != nil {
			mode = machineapi.ApplyConfigurationRequest_REBOOT
		}
	case machineapi.ApplyConfigurationRequest_NO_REBOOT:
		if obstacle != nil {
			return status.Error(codes.InvalidArgument, obstacle.Error())
		}
	case machineapi.ApplyConfigurationRequest_TRY:
		return status.Error(codes.Unimplemented, "mode try (with a roll-back after a time) is not part of the reference node; use auto or no-reboot")
	}

	details := map[applyMode]string{
		machineapi.ApplyConfigurationRequest_NO_REBOOT: "Applied configuration without a reboot",
		machineapi.ApplyConfigurationRequest_REBOOT:    "Applied configuration with a reboot",
		machineapi.ApplyConfigurationRequest_STAGED:    "Staged configuration to be applied after the next reboot",
	}[mode]

	result.Mode, result.ModeDetails = mode, details

	if mode == machineapi.ApplyConfigurationRequest_REBOOT && obstacle != nil {
		result.ModeDetails += ": " + obstacle.Error()
	}

	if request.GetDryRun() {
		diff, err := configdiff.DiffConfigs(current, provider)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}

		result.ModeDetails = fmt.Sprintf("Dry run summary:\n%s (skipped in dry-run).\nConfig diff:\n\n%s", details, diff)

		return nil
	}

	if err := storeConfig(provider); err != nil {
		return status.Error(codes.Internal, err.Error())
	}

	console.Printf("apply config request: mode %s", mode)

	switch mode {
	case machineapi.ApplyConfigurationRequest_NO_REBOOT:
		m.mu.Lock()
		m.cfg = provider
		m.mu.Unlock()
		m.store.MachineConfig(provider)

		if err := m.applyImmediate(provider); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
	case machineapi.ApplyConfigurationRequest_REBOOT:
		_, err := m.Reboot("apply configuration")

		return err
	}

	return nil
}

// immediateObstacle says why a change needs a reboot; nil when it does not. Without a reboot the node takes changes
// of registry mirrors, sysctls, and every document other than v1alpha1 (such as ExtensionServiceConfig).
func immediateObstacle(current, next config.Provider) error {
	a, b := current.RawV1Alpha1().DeepCopy(), next.RawV1Alpha1().DeepCopy()

	for _, c := range []*v1alpha1.Config{a, b} {
		if c.MachineConfig != nil {
			c.MachineConfig.MachineRegistries = v1alpha1.RegistriesConfig{}
			c.MachineConfig.MachineSysctls = nil
		}
	}

	if reflect.DeepEqual(a, b) {
		return nil
	}

	return fmt.Errorf("this config change can't be applied in immediate mode: more than registries, sysctls and extension service configs differs")
}

// applyImmediate brings a running node in line with its new config.
func (m *Machine) applyImmediate(cfg config.Provider) error {
	for key, value := range cfg.Machine().Sysctls() {
		if err := kernel.SetSysctl(key, value); err != nil {
			return err
		}
	}

	if err := m.writeRegistries(cfg); err != nil {
		return err
	}

	return m.applyExtensionConfigs(cfg)
}

func (m *Machine) writeRegistries(cfg config.Provider) error {
	cache := ""
	if m.imageCache {
		cache = imagecache.Endpoint
	}

	hosts, err := cri.Hosts(cfg.RegistryMirrorConfigs(), cfg.RegistryTLSConfigs(), cache)
	if err != nil {
		return err
	}

	return cri.WriteHosts(hosts)
}

// storeConfig writes the config, which holds the cluster's secrets, to STATE.
func storeConfig(provider config.Provider) error {
	content, err := provider.Bytes()
	if err != nil {
		return err
	}

	return disk.WriteFile(configFile, bytes.TrimLeft(content, "\n"), 0o600)
}
