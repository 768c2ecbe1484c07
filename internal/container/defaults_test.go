package container

import (
	"reflect"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestDefaultsAreForWhatIsNotSaid(t *testing.T) {
	d := Defaults{
		Ulimits: map[string]shoal.Ulimit{"nofile": {Name: "nofile", Soft: 10, Hard: 20}, "nproc": {Name: "nproc", Soft: 1, Hard: 2}}, ShmSize: 1 << 20, IpcMode: "shareable",
		CgroupnsMode: "host", Init: true, NoNewPrivileges: true, Seccomp: "unconfined", Log: shoal.Driver{Name: "json-file", Options: map[string]string{"max-size": "1m", "max-file": "3"}},
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	var plain Spec
	d.apply(&plain)
	want := Spec{
		Ulimits: []shoal.Ulimit{d.Ulimits["nofile"], d.Ulimits["nproc"]}, ShmSize: 1 << 20, IpcMode: "shareable", CgroupnsMode: "host",
		SecurityOpt: []string{"no-new-privileges", "seccomp=unconfined"}, Log: d.Log,
	}
	if !reflect.DeepEqual(plain, want) {
		t.Errorf("%+v, want %+v", plain, want)
	}
	said := Spec{
		Ulimits: []shoal.Ulimit{{Name: "nofile", Soft: 5, Hard: 5}, {Name: "nproc"}}, ShmSize: 5, IpcMode: "none", CgroupnsMode: "private", Init: new(false),
		SecurityOpt: []string{"no-new-privileges:false", "seccomp=unconfined"}, Log: shoal.Driver{Name: "local"},
	}
	was := said
	d.apply(&said)
	if !reflect.DeepEqual(said, was) {
		t.Errorf("%+v, want %+v", said, was)
	}
	logged := Spec{Privileged: true, Log: shoal.Driver{Name: "json-file", Options: map[string]string{"max-size": "2m"}}}
	d.apply(&logged)
	if logged.Log.Options["max-size"] != "2m" || logged.Log.Options["max-file"] != "3" || logged.CgroupnsMode != "" || len(logged.SecurityOpt) != 1 {
		t.Errorf("%+v", logged)
	}
	d.Log.Options["nosuch"] = "x"
	if d.Check() == nil {
		t.Error("an option that the driver does not have is accepted")
	}
}

// Options of what the node keeps of a log are for every driver, as with dockerd; the others are for the default driver only.
func TestDefaultsOfCopiesAreForEveryLogDriver(t *testing.T) {
	d := Defaults{Log: shoal.Driver{Name: "json-file", Options: map[string]string{"max-size": "1m", "cache-max-size": "2m", "cache-disabled": "true"}}}
	s := Spec{Log: shoal.Driver{Name: "syslog", Options: map[string]string{"cache-disabled": "false"}}}
	d.apply(&s)
	if o := s.Log.Options; s.Log.Name != "syslog" || len(o) != 2 || o["cache-max-size"] != "2m" || o["cache-disabled"] != "false" {
		t.Errorf("%+v", s.Log)
	}
}
