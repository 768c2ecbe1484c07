package container

import goruntime "runtime"

// lockThread keeps the goroutine on its thread until both end.
func lockThread() { goruntime.LockOSThread() }
