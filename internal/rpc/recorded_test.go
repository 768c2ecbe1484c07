package rpc_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// record writes the recorded form anew. It must only be used to add what is new: see TestRecordedForm.
var record = flag.Bool("record", false, "write testdata/recorded anew")

// recordedTypes is everything that is stored in the cluster's state or sent between nodes.
func recordedTypes() map[string]any {
	all := map[string]any{
		"shoal.Cluster": &shoal.Cluster{}, "shoal.Config": &shoal.Config{}, "shoal.Network": &shoal.Network{}, "shoal.Node": &shoal.Node{},
		"shoal.Secret": &shoal.Secret{}, "shoal.Service": &shoal.Service{}, "shoal.Task": &shoal.Task{},
	}
	for _, message := range []any{
		&rpc.RootCARequest{}, &rpc.RootCAReply{}, &rpc.JoinRequest{}, &rpc.CertificateReply{}, &rpc.RenewRequest{},
		&rpc.MemberReply{}, &rpc.MemberRequest{}, &rpc.LeaveRequest{}, &rpc.AttachRequest{}, &rpc.AttachReply{}, &rpc.DetachRequest{},
		&rpc.AgentMessage{}, &rpc.ManagerMessage{}, &rpc.LogRequest{}, &rpc.LogMessage{}, &rpc.Frame{},
	} {
		all[strings.TrimPrefix(fmt.Sprintf("%T", message), "*")] = message
	}
	return all
}

// TestRecordedForm compares the JSON of all that is stored or sent with what was recorded from the version before the
// vocabulary had types for addresses and IDs: nodes of both versions read each other's messages and state.
func TestRecordedForm(t *testing.T) {
	for name, v := range recordedTypes() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "recorded", name+".json")
			if *record {
				if err := os.WriteFile(strings.TrimSuffix(path, ".json")+".empty.json", encode(t, v), 0o644); err != nil {
					t.Fatal(err)
				}
				fill(reflect.ValueOf(v).Elem(), "")
				if err := os.WriteFile(path, encode(t, v), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dec := json.NewDecoder(bytes.NewReader(want))
			dec.DisallowUnknownFields()
			if err := dec.Decode(v); err != nil {
				t.Fatalf("decode what an earlier version wrote: %v", err)
			}
			if got := encode(t, v); !bytes.Equal(got, want) {
				t.Errorf("now written as\n%s\nearlier as\n%s", got, want)
			}
			empty := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			path = filepath.Join("testdata", "recorded", name+".empty.json")
			if want, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			if got := encode(t, empty); !bytes.Equal(got, want) {
				t.Errorf("empty is now written as\n%s\nearlier as\n%s", got, want)
			}
		})
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return append(text, '\n')
}

// fill gives every field below v a value that tells it from the others.
func fill(v reflect.Value, path string) {
	field := path[strings.LastIndexByte(path, '.')+1:]
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 11, 21, 10, 33, len(path)%60, 123456789, time.UTC)))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr(address(path))))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix(address(path) + "/24")))
		return
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort("192.0.2.7:7946")))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(path))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), path)
		fill(v.Index(1), path)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		key.SetString("key of " + field)
		fill(value, path)
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(textOf(path, field))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(int64(len(path)))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(len(path)))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	default:
		panic("fill " + path + ": " + v.Kind().String())
	}
}

// textOf is a text for a field; one that is an address in those fields that hold addresses.
func textOf(path, field string) string {
	switch field {
	case "Subnet", "Range", "Addresses", "DefaultAddrPool", "Routes", "IngressAddr":
		return address(path) + "/24"
	case "IngressAddr6", "Addr6":
		return "fd00:1::7/64"
	case "Addrs6":
		return "2001:db8::7"
	case "Gateway", "Aux", "DataAddr", "TunnelAddr", "Address", "AdvertiseAddr", "Nameservers":
		return address(path)
	case "Addr":
		switch {
		case strings.HasSuffix(path, "VIPs.Addr"):
			return address(path) + "/24"
		case strings.HasSuffix(path, "Manager.Addr"):
			return address(path) + ":2377"
		}
		return address(path)
	case "MAC":
		return "02:42:0a:00:01:07"
	}
	return "text of " + path
}

func address(path string) string {
	if strings.HasSuffix(path, "6") {
		return "fd00:1::7"
	}
	return fmt.Sprintf("10.0.%d.0", len(path))
}
