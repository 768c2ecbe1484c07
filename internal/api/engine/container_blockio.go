package engine

import (
	apicontainer "github.com/moby/moby/api/types/container"
)

// discardBlockIO takes away the settings of block IO that the kernel does not have, and returns what the user is to be warned of, in Docker's words.
func discardBlockIO(r *apicontainer.Resources, has func(setting string) bool) []string {
	const notMounted = "or the cgroup is not mounted."
	var warnings []string
	for _, s := range []struct {
		setting string
		asked   bool
		discard func()
		warning string
	}{
		{"weight", r.BlkioWeight > 0, func() { r.BlkioWeight = 0 }, "Block I/O weight " + notMounted + " Weight discarded."},
		{"weight_device", len(r.BlkioWeightDevice) > 0, func() { r.BlkioWeightDevice = nil }, "Block I/O weight_device " + notMounted + " Weight-device discarded."},
		{"throttle.read_bps_device", len(r.BlkioDeviceReadBps) > 0, func() { r.BlkioDeviceReadBps = nil },
			"BPS Block I/O read limit " + notMounted + " Block I/O BPS read limit discarded."},
		{"throttle.write_bps_device", len(r.BlkioDeviceWriteBps) > 0, func() { r.BlkioDeviceWriteBps = nil },
			"BPS Block I/O write limit " + notMounted + " Block I/O BPS write limit discarded."},
		{"throttle.read_iops_device", len(r.BlkioDeviceReadIOps) > 0, func() { r.BlkioDeviceReadIOps = nil },
			"IOPS Block read limit " + notMounted + " Block I/O IOPS read limit discarded."},
		{"throttle.write_iops_device", len(r.BlkioDeviceWriteIOps) > 0, func() { r.BlkioDeviceWriteIOps = nil },
			"IOPS Block write limit " + notMounted + " Block I/O IOPS write limit discarded."},
	} {
		if s.asked && !has(s.setting) {
			s.discard()
			warnings = append(warnings, "Your kernel does not support "+s.warning)
		}
	}
	return warnings
}
