// Package api names the default values that docker/cli reads, and nothing else of swarmkit.
package api

import (
	"time"

	"github.com/gogo/protobuf/types"
)

type ServiceSpec struct {
	Task     TaskSpec
	Update   *UpdateConfig
	Rollback *UpdateConfig
}

type TaskSpec struct {
	Container ContainerSpec
	Restart   *RestartPolicy
}

func (t *TaskSpec) GetContainer() *ContainerSpec { return &t.Container }

type ContainerSpec struct {
	StopGracePeriod *types.Duration
}

type RestartPolicy struct {
	Condition   RestartCondition
	Delay       *types.Duration
	MaxAttempts uint64
	Window      *types.Duration
}

type RestartCondition int32

const (
	RestartOnNone RestartCondition = iota
	RestartOnFailure
	RestartOnAny
)

type (
	UpdateConfig_FailureAction int32
	UpdateConfig_UpdateOrder   int32
)

const (
	UpdateConfig_PAUSE UpdateConfig_FailureAction = iota
	UpdateConfig_CONTINUE
	UpdateConfig_ROLLBACK
)

const (
	UpdateConfig_STOP_FIRST UpdateConfig_UpdateOrder = iota
	UpdateConfig_START_FIRST
)

var UpdateConfig_FailureAction_name = map[int32]string{0: "PAUSE", 1: "CONTINUE", 2: "ROLLBACK"}

type UpdateConfig struct {
	Parallelism     uint64
	Delay           time.Duration
	FailureAction   UpdateConfig_FailureAction
	Monitor         *types.Duration
	MaxFailureRatio float32
	Order           UpdateConfig_UpdateOrder
}
