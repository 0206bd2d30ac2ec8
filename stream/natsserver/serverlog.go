package natsserver

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// serverLog passes the NATS server's messages on to slog. Its notices are many
// and of no interest unless something is wrong.
type serverLog struct {
	logger *slog.Logger
	// fatal is what the server said when it gave up.
	fatal atomic.Pointer[string]
}

func (l *serverLog) Noticef(format string, v ...any) { l.logger.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.logger.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.logger.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.logger.Warn(fmt.Sprintf(format, v...)) }
func (l *serverLog) Errorf(format string, v ...any) {
	l.logger.Error("NATS server: " + fmt.Sprintf(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	message := fmt.Sprintf(format, v...)
	l.fatal.Store(&message)
}

// newPassword returns a password that nobody has to remember.
func newPassword() string { return rand.Text() }
