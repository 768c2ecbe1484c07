package api

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// refusedClearly checks that an error is the caller's fault and says why.
func refusedClearly(t *testing.T, err error) {
	t.Helper()
	if code := statusOf(err); code < http.StatusBadRequest || code >= http.StatusInternalServerError && code != http.StatusNotImplemented || err.Error() == "" {
		t.Fatalf("refused with %d %q", code, err)
	}
}

// FuzzNetworkCreate takes whatever body through to the network's allocation: it is refused clearly, or it gets subnets that are well
// within what was asked for, or says why not.
func FuzzNetworkCreate(f *testing.F) {
	for _, body := range []string{
		`{"Name":"a","Driver":"overlay"}`,
		`{"Name":"a","Driver":"overlay","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00::/64"},{"Subnet":"10.1.0.0/24","Gateway":"10.1.0.9"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"10.1.0.0/24","IPRange":"10.1.0.128/25","AuxiliaryAddresses":{"r":"10.1.0.2"}}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"10.1.0.0/24"},{"Subnet":"10.1.0.0/25"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Gateway":"10.1.0.9"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"::ffff:10.1.0.0/120"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"0.0.0.0/0"},{"Subnet":"255.255.255.255/32"}]}}`,
		`{"Name":"a","Driver":"overlay","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"::/0"}]}}`,
		`{"Name":"a","Driver":"bridge","Ingress":true}`, `{"Name":"a","ConfigOnly":true}`, `{"Name":"","Driver":null}`, `{"IPAM":{"Config":null}}`, `[]`, `{"Name":1}`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req createNetwork
		if err := readJSON(httptest.NewRequest("POST", "/networks/create", bytes.NewReader(body)), &req); err != nil {
			refusedClearly(t, err)
			return
		}
		spec, err := req.spec()
		if err == nil {
			err = checkOverlay(spec)
		}
		n := &shoal.Network{ID: "a", Spec: spec}
		v := storetest.Open(t, store.NewMemory()).View()
		if err == nil {
			err = admit(v, nil, n)
		}
		if err != nil {
			refusedClearly(t, err)
			return
		}
		v = v.With(store.Changes{Puts: []store.Object{n}})
		changes, err := allocator.New(allocator.Config{}).Reconcile(v, "network/a")
		if err != nil {
			t.Fatal(err)
		}
		allocated := v.With(changes).Network("a")
		if len(allocated.IPAM) == 0 && allocated.Err == "" && (spec.Driver == shoal.DriverOverlay || spec.Driver == "") {
			t.Fatal("nothing was allocated and nobody knows why")
		}
		for _, s := range allocated.IPAM {
			p, err := netip.ParsePrefix(s.Subnet)
			if err != nil {
				t.Fatal(err)
			}
			if gw, err := netip.ParseAddr(s.Gateway); err != nil || !p.Contains(gw) {
				t.Fatalf("gateway %q of %s", s.Gateway, p)
			}
		}
		networkTo(*allocated)
		allocator.UsageOf(v, allocated)
	})
}

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
		rt, db := swarmServer(t, allocator.CheckPorts)
		ingress := &shoal.Network{ID: "ingress", Spec: shoal.NetworkSpec{Name: "ingress", Ingress: true}}
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
		serviceTo(db.View().With(changes).Service(s.ID))
	})
}
