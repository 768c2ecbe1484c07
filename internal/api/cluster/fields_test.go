package cluster

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/server/servertest"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// A field of a request about the cluster that has neither an effect nor a refusal is silently ignored: none may be.
func TestNoFieldOfTheClustersRequestsIsSilentlyIgnored(t *testing.T) {
	rt, db := newRouter(t, nil)
	if _, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{&shoal.Node{ID: "n1", Role: shoal.RoleManager}}}); err != nil {
		t.Fatal(err)
	}
	sentTo := func(path string) func(string) string {
		return func(body string) string {
			if code, text := call(t, rt, "POST", path, body, nil); code >= http.StatusBadRequest {
				return text
			}
			return ""
		}
	}
	refusalBy := func(h server.Handler) func(string) string {
		return func(body string) string {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			if err := h(httptest.NewRecorder(), r); err != nil {
				return err.Error()
			}
			return ""
		}
	}
	none := func(string) string { return "" }
	for _, c := range []struct {
		request any
		fates   servertest.Fates
		refuse  func(string) string
	}{
		{swarm.ServiceSpec{}, serviceFates(), sentTo("/services/create")},
		{swarm.NodeSpec{}, servertest.Fates{Honoured: map[string][]string{
			"TestPlacement": {"Labels"}, "TestPromoteAndDemote": {"Role"}, "TestDrainLeaveAndRemove": {"Availability"}, "TestClientsOfEveryAPIVersionAreServed": {"Name"},
		}}, none},
		{swarm.SecretSpec{}, servertest.Fates{
			Honoured: map[string][]string{"TestSecrets": {"Name", "Labels", "Data"}, "TestTemplatesReferToSecretsConfigsAndEnvironment": {"Templating.Name"}},
			Refused:  []servertest.Refusal{{Path: "Driver", Body: `{"Name":"s","Data":"eA==","Driver":{"Name":"vault"}}`, Words: `secret driver "vault" not found`}},
			Without:  map[string][]string{"the template language that there is has none": {"Templating.Options"}},
		}, sentTo("/secrets/create")},
		{swarm.ConfigSpec{}, servertest.Fates{
			Honoured: map[string][]string{"TestSecrets": {"Name", "Labels", "Data"}, "TestTemplatesReferToSecretsConfigsAndEnvironment": {"Templating.Name"}},
			Without:  map[string][]string{"the template language that there is has none": {"Templating.Options"}},
		}, none},
		{swarm.Spec{}, clusterFates(""), none},
		{swarm.InitRequest{}, initFates(), refusalBy((&Swarm{}).init)},
		{swarm.JoinRequest{}, servertest.Fates{Honoured: map[string][]string{
			"TestThreeMachinesBecomeACluster": {"AdvertiseAddr", "RemoteAddrs", "JoinToken", "Availability"}, "TestANodeReachesItselfWhereItListens": {"ListenAddr"},
			"TestClientsOfEveryAPIVersionAreServed": {"DataPathAddr"},
		}}, none},
		{swarm.UnlockRequest{}, servertest.Fates{Honoured: map[string][]string{"TestAutolock": {"UnlockKey"}}}, none},
	} {
		servertest.CheckFields(t, reflect.TypeOf(c.request), c.fates, c.refuse)
	}
}

// serviceFates is what becomes of the fields of a service. That each is kept and shown is TestSpecComesBackAsItWent's.
func serviceFates() servertest.Fates {
	const task, container = "TaskTemplate.", "TaskTemplate.ContainerSpec."
	spec := func(fields string) string {
		return `{"Name":"refused","TaskTemplate":{"ContainerSpec":{"Image":"i"` + fields + `}}}`
	}
	template := func(fields string) string {
		return `{"Name":"refused","TaskTemplate":{"ContainerSpec":{"Image":"i"}` + fields + `}}`
	}
	mount := func(fields string) string {
		return spec(`,"Mounts":[{"Type":"volume","Source":"v","Target":"/v",` + fields + `}]`)
	}
	f := servertest.Fates{
		Honoured: map[string][]string{
			"TestLookingAtAService":                    {"Name", "Labels"},
			"TestPlacement":                            {"Mode.Replicated", "Mode.Global", task + "Placement.Constraints"},
			"TestJobs":                                 {"Mode.ReplicatedJob", "Mode.GlobalJob"},
			"TestFailedUpdates":                        {"UpdateConfig", "RollbackConfig"},
			"TestTheMeshAnswersOnEveryNode":            {"EndpointSpec.Ports"},
			"TestServicesFindEachOtherOnAnOverlay":     {"EndpointSpec.Mode", task + "Networks.Target", task + "Networks.Aliases"},
			"TestNetworksOfATask":                      {task + "Networks.DriverOpts"},
			"TestSpreadsOverLabelsFirst":               {task + "Placement.Preferences"},
			"TestMaxReplicasPerNode":                   {task + "Placement.MaxReplicas"},
			"TestArchitectureNames":                    {task + "Placement.Platforms"},
			"TestRestartPolicies":                      {task + "RestartPolicy"},
			"TestAdvertisedPiecesArePlaced":            {task + "Resources.Reservations"},
			"TestEveryFieldOfATaskReachesItsContainer": {task + "LogDriver", task + "Resources.Limits", task + "Resources.SwapBytes", task + "Resources.MemorySwappiness"},
			"TestCommandsEndAsDockersDo":               {task + "ForceUpdate"},
			"TestServiceLife":                          {task + "Runtime"},
			"TestSecrets":                              {container + "Secrets", container + "Configs"},
			"TestFieldsOfMounts":                       {container + "Mounts.BindOptions", container + "Mounts.VolumeOptions", container + "Mounts.TmpfsOptions"},
		},
		Refused: []servertest.Refusal{
			{Path: task + "PluginSpec", Body: template(`,"PluginSpec":{}`), Words: "services that run plugins are not supported"},
			{Path: task + "NetworkAttachmentSpec", Body: template(`,"NetworkAttachmentSpec":{}`), Words: "a service cannot have a NetworkAttachmentSpec"},
			{Path: task + "Runtime", Body: template(`,"Runtime":"attachment"`), Words: "unsupported runtime"},
			{Path: task + "Placement.Preferences", Body: template(`,"Placement":{"Preferences":[{}]}`), Words: "invalid placement preference"},
			{Path: container + "Isolation", Body: spec(`,"Isolation":"hyperv"`), Words: `invalid isolation mode: "hyperv"`},
			{Path: container + "Mounts.ImageOptions", Body: mount(`"ImageOptions":{}`), Words: `ImageOptions must not be specified on mount type "volume"`},
			{Path: container + "Mounts.ClusterOptions", Body: mount(`"ClusterOptions":{}`), Words: `ClusterOptions must not be specified on mount type "volume"`},
			{Path: container + "Mounts.Type", Body: spec(`,"Mounts":[{"Type":"cluster","Source":"v","Target":"/v"}]`), Words: `invalid MountType: "cluster"`},
			{Path: container + "Privileges.CredentialSpec", Body: spec(`,"Privileges":{"CredentialSpec":{"File":"x"}}`), Words: "credential specs are of Windows"},
			{Path: container + "Privileges.SELinuxContext", Body: spec(`,"Privileges":{"SELinuxContext":{"User":"x"}}`), Words: "SELinux labels are not supported by this engine"},
			{Path: container + "Privileges.AppArmor", Body: spec(`,"Privileges":{"AppArmor":{"Mode":"x"}}`), Words: `unknown AppArmor mode "x"`},
			{Path: container + "Privileges.Seccomp", Body: spec(`,"Privileges":{"Seccomp":{"Mode":"x"}}`), Words: `unknown seccomp mode "x"`},
		},
		Without: map[string][]string{
			"of Docker Desktop only":                                    {container + "Mounts.Consistency"},
			"containers have no SELinux label that could be taken away": {container + "Privileges.SELinuxContext.Disable"},
		},
	}
	for _, name := range []string{"Image", "Labels", "Command", "Args", "Hostname", "Env", "Dir", "User", "Groups", "Privileges", "Init", "StopSignal", "TTY", "OpenStdin", "ReadOnly", "StopGracePeriod",
		"Healthcheck", "Hosts", "DNSConfig", "Sysctls", "CapabilityAdd", "CapabilityDrop", "Ulimits", "OomScoreAdj", "Mounts.Type", "Mounts.Source", "Mounts.Target", "Mounts.ReadOnly"} {
		const test = "TestEveryFieldOfATaskReachesItsContainer"
		f.Honoured[test] = append(f.Honoured[test], container+name)
	}
	return f
}

// clusterFates is what becomes of the settings of a cluster, which are below a path.
func clusterFates(at string) servertest.Fates {
	f := servertest.Fates{Honoured: map[string][]string{}}
	for test, names := range map[string][]string{
		"TestClientsOfEveryAPIVersionAreServed":                       {"Name", "Labels", "Orchestration.TaskHistoryRetentionLimit"},
		"TestSettingsOfRaftAreWarnedOf":                               {"Raft"},
		"TestASilentNodeIsDownWhenItsTimeIsOver":                      {"Dispatcher.HeartbeatPeriod"},
		"TestCertificatesOfAnHourAreRenewed":                          {"CAConfig.NodeCertExpiry"},
		"TestExternalCA":                                              {"CAConfig.ExternalCAs"},
		"TestRootRotation":                                            {"CAConfig.SigningCACert", "CAConfig.SigningCAKey", "CAConfig.ForceRotate"},
		"TestTasksHaveTheClustersLogDriverUnlessTheirServiceNamesOne": {"TaskDefaults.LogDriver"},
		"TestAutolock":                                                {"EncryptionConfig.AutoLockManagers"},
	} {
		for _, name := range names {
			f.Honoured[test] = append(f.Honoured[test], strings.TrimPrefix(at+"."+name, "."))
		}
	}
	return f
}

func initFates() servertest.Fates {
	f := clusterFates("Spec")
	f.Refused = []servertest.Refusal{
		{Path: "Spec.CAConfig.SigningCACert", Body: `{"Spec":{"CAConfig":{"SigningCACert":"x"}}}`, Words: "a new swarm makes its own root certificate"},
		{Path: "Spec.CAConfig.SigningCAKey", Body: `{"Spec":{"CAConfig":{"SigningCAKey":"x"}}}`, Words: "a new swarm makes its own root certificate"},
	}
	for test, names := range map[string][]string{
		"TestThreeMachinesBecomeACluster":       {"AdvertiseAddr", "Availability"},
		"TestANodeReachesItselfWhereItListens":  {"ListenAddr"},
		"TestClientsOfEveryAPIVersionAreServed": {"DataPathAddr", "DataPathPort", "DefaultAddrPool", "SubnetSize"},
		"TestForceNewCluster":                   {"ForceNewCluster"},
		"TestAutolock":                          {"AutoLockManagers"},
	} {
		f.Honoured[test] = append(f.Honoured[test], names...)
	}
	return f
}

// Settings of Raft that etcd does not have were taken, shown, and nothing more.
func TestSettingsOfRaftAreWarnedOf(t *testing.T) {
	zero, one := uint64(0), uint64(1)
	for _, c := range []struct {
		raft shoal.RaftConfig
		want bool
	}{
		{shoal.RaftConfig{}, false}, {shoal.RaftConfig{SnapshotInterval: 10000, KeepOldSnapshots: &zero, LogEntriesForSlowFollowers: 500, HeartbeatTick: 1, ElectionTick: 10}, false},
		{shoal.RaftConfig{SnapshotInterval: 5000}, true}, {shoal.RaftConfig{KeepOldSnapshots: &one}, true}, {shoal.RaftConfig{LogEntriesForSlowFollowers: 1}, true},
		{shoal.RaftConfig{HeartbeatTick: 2}, true}, {shoal.RaftConfig{ElectionTick: 3}, true},
	} {
		if got := setsRaft(c.raft); got != c.want {
			t.Errorf("%+v: %v", c.raft, got)
		}
	}
}
