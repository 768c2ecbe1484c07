package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// initName is the path at which a container that asked for an init finds this program, and how it is called.
const initName = "/sbin/docker-init"

// Exit codes of a command that cannot be started, and what is added to the signal that ended one.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignalled     = 128
)

// runInit is the first process of a container: it runs a command, forwards signals to it, reaps all processes whose parents are
// gone and returns the command's exit code.
func runInit(args []string) int {
	debug.SetGCPercent(-1) // it allocates nothing from here on
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "docker-init: no command")
		return exitNotFound
	}
	if os.Getpid() != 1 { // outside a PID namespace of its own, orphans would go to another process
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	signals := make(chan os.Signal, 128)
	signal.Notify(signals, forwarded()...)
	child, err := spawn(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "docker-init: exec %s failed: %v\n", args[0], err)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return exitNotFound
		}
		return exitNotExecutable
	}
	go func() {
		for s := range signals {
			_ = unix.Kill(child, s.(syscall.Signal)) // it may just have ended
		}
	}()
	return reap(child)
}

// forwarded is every signal that another process may mean for the command: not those that tell of this process's own faults
// and children, nor the one with which the language's runtime interrupts its threads.
func forwarded() []os.Signal {
	own := []syscall.Signal{
		unix.SIGCHLD, unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS,
		unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGPROF, unix.SIGKILL, unix.SIGSTOP,
	}
	const last = 64
	var all []os.Signal
	for n := syscall.Signal(1); n <= last; n++ {
		reserved := n == 32 || n == 33 // the C library's
		if !reserved && !slices.Contains(own, n) {
			all = append(all, n)
		}
	}
	return all
}

// spawn starts the command in a process group of its own, which gets the terminal if there is one.
func spawn(args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	_, err = unix.IoctlGetTermios(0, unix.TCGETS)
	terminal := err == nil
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true, Foreground: terminal}}
	return syscall.ForkExec(path, args, attr) // #nosec G204 G702 -- the user's command in the user's container
}

// reap waits for every child until the given one ends, and returns that one's exit code.
func reap(child int) int {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil: // no child is left, which cannot be before the given one was seen to end
			return 1
		case pid != child:
		case status.Signaled():
			return exitSignalled + int(status.Signal())
		case status.Exited():
			return status.ExitStatus()
		}
	}
}
