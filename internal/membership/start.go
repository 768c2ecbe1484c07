package membership

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// startWait is how long Start waits for the node's own manager, which may have to wait for others.
const startWait = 5 * time.Second

// Start takes up the place that the folder tells of. What cannot be done at once goes on until ctx ends.
func (m *Membership) Start(ctx context.Context) error {
	m.mu.Lock()
	lock := m.lock
	m.mu.Unlock()
	identity, err := ca.LoadIdentity(m.certificates(), lock)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if errors.Is(err, ca.ErrLocked) {
		m.awaitUnlock(ctx)
		return nil
	}
	if err != nil {
		return m.fail(err)
	}
	state, err := m.readState()
	if err != nil {
		return m.fail(err)
	}
	m.followAddress(&state)
	m.mu.Lock()
	m.identity, m.state, m.locked, m.failure = identity, state, false, nil
	m.mu.Unlock()
	// The agent looks for a manager while this node's own waits for a majority.
	if err := m.startAgent(); err != nil {
		return m.fail(err)
	}
	if identity.Role() == shoal.RoleManager {
		started := make(chan struct{})
		ctx, cancel := context.WithCancel(ctx)
		m.mu.Lock()
		m.cancelStart = cancel
		m.mu.Unlock()
		go func() {
			defer close(started)
			m.resume(ctx, identity)
		}()
		select {
		case <-started:
		case <-time.After(startWait):
		}
	}
	return nil
}

// resume starts the node's manager again and again until it has a majority to work with, or is to be a manager no more.
func (m *Membership) resume(ctx context.Context, identity *ca.Identity) {
	for pause := firstRetry; ctx.Err() == nil && identity.Role() == shoal.RoleManager; pause = min(2*pause, longestRetry) {
		err := fault.Contain(m.cfg.Log, "start of the node's manager", func() error {
			m.op.Lock()
			defer m.op.Unlock()
			return m.resumeOnce(ctx)
		})
		if err == nil {
			return
		}
		m.cfg.Log.Error("the node's manager cannot be started; it is tried again, and the node works as a worker until then", "err", err)
		m.reconcileSoon() //nolint:contextcheck // it may have been demoted while it was away
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (m *Membership) resumeOnce(ctx context.Context) error {
	m.mu.Lock()
	running := m.manager != nil && !isDone(m.manager)
	m.mu.Unlock()
	if running || ctx.Err() != nil {
		return nil
	}
	m.closeManager()
	return m.startAgain(ctx)
}

// fail records why the node has no place although it should.
func (m *Membership) fail(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure = err
	return err
}

// Stop ends what runs and leaves everything as it is: the node comes back to its place at the next start.
func (m *Membership) Stop() {
	m.cancelResume()
	m.op.Lock()
	defer m.op.Unlock()
	m.stop()
}

func (m *Membership) cancelResume() {
	m.mu.Lock()
	cancelStart := m.cancelStart
	m.mu.Unlock()
	if cancelStart != nil {
		cancelStart()
	}
}

func (m *Membership) stop() {
	m.mu.Lock()
	agent, manager := m.agent, m.manager
	m.agent, m.manager = nil, nil
	m.mu.Unlock()
	if agent != nil {
		agent.Stop()
	}
	if manager != nil {
		manager.Stop()
	}
}

func (m *Membership) startManager(ctx context.Context, join *rpc.MemberReply) error {
	return m.startManagerAs(ctx, ManagerConfig{Join: join})
}

// startManagerAs is startManager with some fields of the configuration; it fills in the others.
func (m *Membership) startManagerAs(ctx context.Context, cfg ManagerConfig) error {
	join := cfg.Join
	m.mu.Lock()
	identity, state := m.identity, m.state
	m.mu.Unlock()
	key, err := m.sealingKey(join)
	if err != nil {
		return fmt.Errorf("start manager: %w", err)
	}
	cfg.Identity, cfg.State, cfg.Dir, cfg.SealingKey = identity, state, m.cfg.Dir, key
	if join == nil && !identity.Valid(time.Now()) {
		if err := m.certifySelf(ctx, identity); err != nil {
			m.cfg.Log.Warn("the certificate of this manager has expired, and it cannot make itself another one; the other managers are asked", "expired", identity.Certificate().NotAfter, "err", err)
		}
	}
	manager, err := m.cfg.Host.StartManager(ctx, cfg)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.startErr = err
	if err != nil {
		return fmt.Errorf("start manager: %w", err)
	}
	m.manager = manager
	following, stop := context.WithCancel(context.Background())
	go fault.Do(m.cfg.Log, "autolock of the node's files", func() { m.followLock(following, manager, identity, key) }) //nolint:contextcheck // as long as the manager, not the request
	go func() {                                                                                                        //nolint:contextcheck // as above
		<-manager.Done()
		stop()
		fault.Do(m.cfg.Log, "restart of the node's manager", func() { m.managerEnded(manager, identity) })
	}()
	return nil
}

// managerEnded starts a manager again that has stopped by itself, or makes it join again if the others have removed it.
func (m *Membership) managerEnded(manager Manager, identity *ca.Identity) {
	m.mu.Lock()
	current, welcomed := m.manager == manager, m.lastWelcome != nil
	m.mu.Unlock()
	if !current || welcomed {
		m.reconcileSoon() // nothing to do if it was asked to stop
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.mu.Lock()
	m.cancelStart = cancel
	m.mu.Unlock()
	m.resume(ctx, identity)
}

func (m *Membership) startAgent() error {
	m.mu.Lock()
	identity, state := m.identity, m.state
	m.mu.Unlock()
	if m.cfg.StartProbes != nil {
		_ = m.cfg.StartProbes() // tried again, and among the node's problems
	}
	agent, err := m.cfg.Host.StartAgent(AgentConfig{
		Identity: identity, State: state, Dir: m.cfg.Dir, Welcomed: m.welcomed,
		Dial: func(addr string) (*rpc.Client, error) {
			return m.cfg.Dialer.Dial(state.reach(addr), identity.ClientTLS())
		},
	})
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agent = agent
	return nil
}
