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

// initName is the path at which a container with an init has this program, and the name by which it is called there.
const initName = "/sbin/docker-init"

// The exit codes of a shell.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignalled     = 128 // plus the number of the signal that ended the command
)

// runInit is the first process of a container: it runs a command, forwards signals to it, reaps the processes whose parents have ended,
// and returns the command's exit code.
func runInit(args []string) int {
	debug.SetGCPercent(-1) // from here on, next to nothing is allocated
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "docker-init: no command")
		return exitNotFound
	}
	if os.Getpid() != 1 { // without a PID namespace of its own, processes whose parents have ended would not become its children
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	signals := make(chan os.Signal, 128)
	signal.Notify(signals, forwardedSignals()...)
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

// forwardedSignals is every signal that somebody may send to the container's first process and mean for the command. The others tell this
// process of faults and children of its own, are used by the Go runtime, or cannot be caught.
func forwardedSignals() []os.Signal {
	own := []syscall.Signal{
		unix.SIGCHLD, unix.SIGFPE, unix.SIGILL, unix.SIGSEGV, unix.SIGBUS, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS,
		unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGPROF, unix.SIGKILL, unix.SIGSTOP,
	}
	const last = 64 // SIGRTMAX, signal(7)
	var forwarded []os.Signal
	for n := syscall.Signal(1); n <= last; n++ {
		reserved := n == 32 || n == 33 // by the C library, signal(7)
		if !reserved && !slices.Contains(own, n) {
			forwarded = append(forwarded, n)
		}
	}
	return forwarded
}

// spawn starts the command in a process group of its own, which gets the terminal if there is one, and returns its PID.
func spawn(args []string) (pid int, err error) {
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
		case err != nil: // no child is left: impossible before the given one has ended
			return 1
		case pid != child: // a process whose parent had ended
		case status.Signaled():
			return exitSignalled + int(status.Signal())
		case status.Exited():
			return status.ExitStatus()
		}
	}
}
