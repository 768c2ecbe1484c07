package build

import (
	"context"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/util/bklog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shoal-dev/shoal/internal/fault"
)

// unary is called for every call of BuildKit's services. A panic is an error of the call; a build ends when the room that it may take is used up.
func (b *Builder) unary(ctx context.Context, request any, call *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
	ctx = bklog.WithLogger(ctx, b.logger)
	err = fault.Contain(b.Log, "call of the builder", func() error {
		if call.FullMethod != controlapi.Control_Solve_FullMethodName || b.Room == nil {
			answer, err = handler(ctx, request)
			return err
		}
		return b.whileRoom(ctx, func(ctx context.Context) error {
			answer, err = handler(ctx, request)
			return err
		})
	})
	return answer, err
}

// stream is called for every stream of BuildKit's services.
func (b *Builder) stream(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return fault.Contain(b.Log, "stream of the builder", func() error { return handler(server, stream) })
}

// roomInterval is how often a build looks at the room that it may take.
const roomInterval = 500 * time.Millisecond

// whileRoom does work until there is no room any more, and returns the error that says so.
func (b *Builder) whileRoom(ctx context.Context, work func(context.Context) error) error {
	if err := b.Room(0); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	full := make(chan error, 1)
	go fault.Do(b.Log, "watch over the room of a build", func() {
		tick := time.NewTicker(roomInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := b.Room(0); err != nil {
					full <- err
					stop(err)
					return
				}
			}
		}
	})
	err := work(ctx)
	select {
	case cause := <-full:
		if err != nil {
			return status.Error(codes.ResourceExhausted, cause.Error())
		}
	default:
	}
	return err
}
