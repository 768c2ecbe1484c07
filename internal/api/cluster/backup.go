package cluster

import (
	"encoding/base64"
	"net/http"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/membership"
)

// backups serves /shoal/backup, on managers, and /shoal/restore: the cluster's state as one sealed file.
type backups struct{ members *membership.Membership }

func (b *backups) Register(rt *server.Router) {
	rt.Handle("POST /shoal/backup", b.save)
	rt.Handle("POST /shoal/restore", b.restore)
}

func (b *backups) save(w http.ResponseWriter, r *http.Request) error {
	var req struct{ Passphrase string }
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	return b.members.Backup(r.Context(), w, req.Passphrase)
}

// passphraseHeader has the passphrase of POST /shoal/restore, in base64: the body is the file.
const passphraseHeader = "Shoal-Passphrase"

func (b *backups) restore(w http.ResponseWriter, r *http.Request) error {
	passphrase, err := base64.StdEncoding.DecodeString(r.Header.Get(passphraseHeader))
	if err != nil {
		return server.BadRequest("header %s: %v", passphraseHeader, err)
	}
	q := r.URL.Query()
	id, err := b.members.Restore(r.Context(), r.Body, string(passphrase), membership.InitRequest{
		ListenAddr: q.Get("listen-addr"), AdvertiseAddr: q.Get("advertise-addr"), DataPathAddr: q.Get("data-path-addr"),
	})
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, id)
}
