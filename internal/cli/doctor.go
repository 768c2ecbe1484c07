package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	dockercli "github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"
)

// diagnosis is the part of the answer to GET /shoal/doctor that is shown.
type diagnosis struct {
	NodeID, Hostname string
	Problems         []string
	Checked          map[string]int
	Peers            []struct {
		Hostname, Addr string
		RoundTrip      time.Duration
		MTU            int
		Encrypted      bool
		Handshake      time.Time
	}
	Encryption string
	Repaired   uint64
	Repairs    []struct {
		At        time.Time
		What, Err string
	}
}

// newDoctor is the command `doctor`.
func newDoctor(docker command.Cli) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Look at the networking of this node, or of all, and say what is wrong",
		Args:  dockercli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := askDoctor(cmd.Context(), docker, all)
			if err != nil {
				return err
			}
			healthy := true
			for _, d := range found {
				d.print(docker.Out())
				healthy = healthy && len(d.Problems) == 0
			}
			if !healthy {
				return dockercli.StatusError{StatusCode: 1}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Ask every node of the cluster (on a manager)")
	return cmd
}

// ask sends a request for which Docker's client has no method: it only lends its connection. A refusal of the daemon is an error, in docker's form.
func ask(docker command.Cli, req *http.Request) (*http.Response, error) {
	dial := docker.Client().Dialer()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var refusal struct{ Message string }
	if err := json.NewDecoder(resp.Body).Decode(&refusal); err != nil || refusal.Message == "" {
		return nil, fmt.Errorf("ask the daemon: %s", resp.Status)
	}
	return nil, errors.New("Error response from daemon: " + refusal.Message) //nolint:revive,staticcheck // docker's own words
}

// askDoctor gets the diagnosis from the daemon.
func askDoctor(ctx context.Context, docker command.Cli, all bool) ([]diagnosis, error) {
	url := "http://shoal/shoal/doctor"
	if all {
		url += "?all=1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := ask(docker, req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var found []diagnosis
	if err := json.NewDecoder(resp.Body).Decode(&found); err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return found, nil
}

func (d diagnosis) print(out io.Writer) {
	var text strings.Builder
	name := d.Hostname
	if name == "" {
		name = "this node"
	}
	if len(d.Problems) == 0 {
		fmt.Fprintf(&text, "%s: healthy (%d parts of the data plane, %d resolvers, %d other nodes)\n", name, d.Checked["parts"], d.Checked["resolvers"], len(d.Peers))
	} else {
		fmt.Fprintf(&text, "%s: %d wrong\n", name, len(d.Problems))
	}
	for _, p := range d.Problems {
		fmt.Fprintf(&text, "  ! %s\n", p)
	}
	for _, p := range d.Peers {
		if p.MTU > 0 {
			fmt.Fprintf(&text, "    %s at %s: %v, packets of %d bytes\n", p.Hostname, p.Addr, p.RoundTrip.Round(10*time.Microsecond), p.MTU)
		}
	}
	d.printEncryption(&text)
	if d.Repaired > 0 {
		fmt.Fprintf(&text, "    repaired since the daemon was started: %d\n", d.Repaired)
	}
	const shown = 5
	for _, r := range d.Repairs[max(0, len(d.Repairs)-shown):] {
		fmt.Fprintf(&text, "      %s %s", r.At.Local().Format(time.DateTime), r.What)
		if r.Err != "" {
			fmt.Fprintf(&text, ": %s", r.Err)
		}
		text.WriteByte('\n')
	}
	_, _ = io.WriteString(out, text.String()) // a terminal that is gone misses nothing
}

// printEncryption says what encrypts traffic, and how long ago a key was agreed on with each node.
func (d diagnosis) printEncryption(out io.Writer) {
	if d.Encryption == "" {
		return
	}
	_, _ = fmt.Fprintf(out, "    encryption: %s\n", d.Encryption) // into a builder
	for _, p := range d.Peers {
		switch {
		case !p.Encrypted:
		case p.Handshake.IsZero():
			_, _ = fmt.Fprintf(out, "      %s: no key yet\n", p.Hostname)
		default:
			_, _ = fmt.Fprintf(out, "      %s: key agreed on %v ago\n", p.Hostname, time.Since(p.Handshake).Round(time.Second))
		}
	}
}
