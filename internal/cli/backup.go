package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	dockercli "github.com/docker/cli/cli"
	"github.com/docker/cli/cli/command"
	"github.com/moby/term"
	"github.com/spf13/cobra"

	"github.com/shoal-dev/shoal/internal/backup"
)

// newBackup is the command `backup`.
func newBackup(docker command.Cli) *cobra.Command {
	var passphraseFile string
	cmd := &cobra.Command{
		Use:   "backup [OPTIONS] FILE",
		Short: "Write the cluster's state to a file, sealed with a passphrase (on a manager)",
		Args:  dockercli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			passphrase, err := readPassphrase(docker, passphraseFile, true)
			if err != nil {
				return err
			}
			if err := saveBackup(cmd.Context(), docker, args[0], passphrase); err != nil {
				return err
			}
			_, err = fmt.Fprintln(docker.Out(), args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "Read the passphrase from the first line of a file")
	return cmd
}

// saveBackup writes the file under another name first, and reads it back: a file of the name that was asked for can be opened.
func saveBackup(ctx context.Context, docker command.Cli, path, passphrase string) (err error) {
	body, err := json.Marshal(struct{ Passphrase string }{passphrase})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shoal/shoal/backup", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := ask(docker, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // only its owner may read it
	if err != nil {
		return err
	}
	defer func() {
		_ = file.Close()
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if _, err := io.Copy(file, resp.Body); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := errors.Join(file.Sync(), verifyBackup(file, passphrase)); err != nil {
		return fmt.Errorf("check backup: %w", err)
	}
	return os.Rename(file.Name(), path)
}

func verifyBackup(file *os.File, passphrase string) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sealed, err := backup.Open(file, passphrase)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, sealed)
	return err
}

// newRestore is the command `restore`.
func newRestore(docker command.Cli) *cobra.Command {
	var passphraseFile string
	addresses := map[string]*string{"advertise-addr": new(string), "listen-addr": new(string), "data-path-addr": new(string)}
	cmd := &cobra.Command{
		Use:   "restore [OPTIONS] FILE",
		Short: "Make this node the manager of the cluster that a backup is of",
		Args:  dockercli.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			passphrase, err := readPassphrase(docker, passphraseFile, false)
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range addresses {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			return restoreBackup(cmd.Context(), docker, args[0], passphrase, query)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&passphraseFile, "passphrase-file", "", "Read the passphrase from the first line of a file")
	flags.StringVar(addresses["advertise-addr"], "advertise-addr", "", `Advertised address (format: "<ip|interface>[:port]")`)
	flags.StringVar(addresses["listen-addr"], "listen-addr", "", `Listen address (format: "<ip|interface>[:port]")`)
	flags.StringVar(addresses["data-path-addr"], "data-path-addr", "", `Address or interface to use for data path traffic (format: "<ip|interface>")`)
	return cmd
}

func restoreBackup(ctx context.Context, docker command.Cli, path, passphrase string, query url.Values) error {
	file, err := os.Open(path) // #nosec G304 -- the user's own
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://shoal/shoal/restore?"+query.Encode(), file)
	if err != nil {
		return err
	}
	req.Header.Set("Shoal-Passphrase", base64.StdEncoding.EncodeToString([]byte(passphrase)))
	resp, err := ask(docker, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var node string
	if err := json.NewDecoder(resp.Body).Decode(&node); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	_, err = fmt.Fprintf(docker.Out(), "Swarm restored: current node (%s) is now its manager.\n\nNodes that do not find it at its address have to leave their swarm and join this one.\n", node)
	return err
}

// readPassphrase reads a passphrase from a file, the environment (SHOAL_PASSPHRASE), the terminal or the standard input, in this order. A new one that is typed must
// be typed twice.
func readPassphrase(docker command.Cli, path string, isNew bool) (string, error) {
	if path != "" {
		text, err := os.ReadFile(path) // #nosec G304 -- the user's own
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(string(text), "\n")
		return nonEmpty(line)
	}
	if text := os.Getenv("SHOAL_PASSPHRASE"); text != "" {
		return text, nil
	}
	in := bufio.NewReader(docker.In())
	if !docker.In().IsTerminal() {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return nonEmpty(strings.TrimRight(line, "\r\n"))
	}
	state, err := term.SaveState(docker.In().FD())
	if err != nil {
		return "", err
	}
	if err := term.DisableEcho(docker.In().FD(), state); err != nil {
		return "", err
	}
	defer func() { _ = term.RestoreTerminal(docker.In().FD(), state) }()
	first, err := typed(docker, in, "Passphrase: ")
	if err != nil || !isNew {
		return first, err
	}
	second, err := typed(docker, in, "Passphrase again: ")
	if err == nil && first != second {
		err = errors.New("the two passphrases differ")
	}
	return first, err
}

func typed(docker command.Cli, in *bufio.Reader, prompt string) (string, error) {
	if _, err := fmt.Fprint(docker.Err(), prompt); err != nil {
		return "", err
	}
	line, err := in.ReadString('\n')
	_, _ = fmt.Fprintln(docker.Err()) // the one that was typed is not shown
	if err != nil {
		return "", err
	}
	return nonEmpty(strings.TrimRight(line, "\r\n"))
}

func nonEmpty(passphrase string) (string, error) {
	if passphrase == "" {
		return "", backup.ErrNoPassphrase
	}
	return passphrase, nil
}
