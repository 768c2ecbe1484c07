package cluster

import (
	"net/http"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// FuzzPublish creates services with whatever ports and labels: refused clearly, or with rules that can be read back.
func FuzzPublish(f *testing.F) {
	for _, c := range [][2]string{
		{`[{"TargetPort":80,"PublishedPort":8080}]`, `{"shoal.publish.8080.allow":"10.0.0.0/8,::1"}`},
		{`[{"TargetPort":53,"PublishedPort":53,"Protocol":"udp"}]`, `{"shoal.publish.53/udp.host-ip":"192.0.2.1"}`},
		{`[{"TargetPort":80,"PublishedPort":90,"PublishMode":"host"}]`, `{"shoal.publish.90.host-ip":"127.0.0.1"}`},
		{`[{"TargetPort":0}]`, `{}`}, {`[{"TargetPort":80},{"TargetPort":80}]`, `null`}, {`[{"TargetPort":4294967295,"PublishedPort":65536}]`, `{}`},
		{`[{"TargetPort":80,"Protocol":"icmp"}]`, `{"shoal.publish..":""}`}, {`null`, `{"shoal.publish.80.snat":"maybe"}`}, {`{}`, `[]`},
		{`[{"TargetPort":80,"PublishedPort":8080,"PublishMode":"nowhere"}]`, `{"shoal.publish.8080.allow":"fe80::1%eth0"}`},
	} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, ports, labels string) {
		rt, db := newRouter(t, allocator.CheckPorts)
		ingress := &shoal.Network{Meta: shoal.Meta{ID: "ingress"}, Spec: shoal.NetworkSpec{Name: "ingress", Ingress: true}}
		if _, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{ingress}}); err != nil {
			t.Fatal(err)
		}
		body := `{"Name":"web","Labels":` + labels + `,"TaskTemplate":{"ContainerSpec":{"Image":"img"}},"EndpointSpec":{"Ports":` + ports + `}}`
		code, text := call(t, rt, "POST", "/services/create", body, nil)
		if code != http.StatusCreated {
			if code < http.StatusBadRequest || code >= http.StatusInternalServerError && !strings.HasPrefix(text, "rpc error: code = Unknown") || text == "" {
				t.Fatalf("refused with %d %q", code, text)
			}
			return
		}
		s := db.View().ServiceByName("web")
		if s == nil {
			return // the labels or ports closed the object and named it otherwise
		}
		var asked []shoal.Port
		if s.Spec.Endpoint != nil {
			asked = s.Spec.Endpoint.Ports
		}
		if _, err := shoal.PublishRules(s.Spec.Labels, asked); err != nil {
			t.Fatal("let in:", err)
		}
		changes, err := allocator.New(allocator.Config{}).Reconcile(db.View(), "service/"+s.ID)
		if err != nil {
			t.Fatal(err)
		}
		toAPIService(db.View().With(changes).Service(s.ID))
	})
}
