package logs

import "context"

// follow reads what is appended to file, nil for none yet, and to the files that come after it, until the log ends or ctx is done.
func (l *Log) follow(ctx context.Context, rd *reader, file *logFile) error {
	var opened *logFile // by this function, which closes it
	defer func() {
		if opened != nil {
			opened.close()
		}
	}()
	for {
		l.mu.Lock()
		changed, open := l.changed, l.open
		l.mu.Unlock()
		if file != nil {
			if err := rd.drain(rd.resume(file)); err != nil {
				return err
			}
		}
		next, err := l.nextFile(file)
		if err != nil {
			return err
		}
		if next != nil {
			// After a rotation, the rest of the old file is read first.
			if file != nil {
				if err := rd.drain(rd.resume(file)); err != nil {
					next.close()
					return err
				}
			}
			if opened != nil {
				opened.close()
			}
			opened, file, rd.buf = next, next, nil
			continue
		}
		if !open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// nextFile opens the file that follows the given one; nil if that is the newest. If rotations have deleted the one that follows, the oldest
// file left is the next.
func (l *Log) nextFile(file *logFile) (*logFile, error) {
	from := oldest
	if file != nil {
		from = file.at + 1
	}
	files, err := l.files(from)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	closeAll(files[1:])
	return files[0], nil
}
