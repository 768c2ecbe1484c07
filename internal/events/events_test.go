package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// follow returns the IDs of the events that a subscriber gets, up to and including the one with the ID last.
func follow(t *testing.T, b *Bus, since time.Time, last string) []string {
	t.Helper()
	errLast := errors.New("last")
	var ids []string
	err := b.Follow(t.Context(), since, func(e Event) error {
		ids = append(ids, e.ID)
		if e.ID == last {
			return errLast
		}
		return nil
	})
	if !errors.Is(err, errLast) {
		t.Errorf("follow: %v", err)
	}
	return ids
}

func TestThePastIsKeptForThoseWhoAskForIt(t *testing.T) {
	var b Bus
	began := time.Now()
	for n := range historySize + 10 {
		b.Publish(Event{ID: fmt.Sprint(n)})
	}
	ids := follow(t, &b, began, fmt.Sprint(historySize+9))
	if len(ids) != historySize || ids[0] != "10" {
		t.Errorf("%d events from %s", len(ids), ids[0])
	}
}

func TestASlowSubscriberLosesTheOldestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var b Bus
		var got []string
		resume := make(chan struct{})
		go func() {
			_ = b.Follow(ctx, time.Time{}, func(e Event) error {
				got = append(got, e.ID)
				<-resume
				return nil
			})
		}()
		synctest.Wait()
		b.Publish(Event{ID: "first"}) // it holds on to this one
		synctest.Wait()
		for n := range maxQueue + 5 {
			b.Publish(Event{ID: fmt.Sprint(n)})
		}
		close(resume)
		synctest.Wait()
		if len(got) != 1+maxQueue || got[0] != "first" || got[1] != "5" {
			t.Errorf("%d events, then %q", len(got), got[:min(2, len(got))])
		}
	})
}
