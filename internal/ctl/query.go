package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// queryOptions are those of `query` (wire contract §6.2).
type queryOptions struct {
	target
	command    string
	file       string
	user       string
	dbname     string
	password   config.Secret
	askForPass bool
	format     format
	delimiter  string
	watch      watchOptions
}

// connectTimeout bounds one attempt to connect to PostgreSQL.
const connectTimeout = 5 * time.Second

func newQueryCommand(a *App, opts *globals) *cobra.Command {
	o := queryOptions{format: formatTSV}
	var cmd *cobra.Command
	cmd = clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		every, err := o.watch.interval(cmd.Flags())
		if err != nil {
			return err
		}
		sql, err := a.sqlOf(&o, cmd.Flags().Changed("command"), cmd.Flags().Changed("file"))
		if err != nil {
			return err
		}
		return a.query(ctx, s, name, &o, sql, every)
	})
	cmd.Use = "query [CLUSTER]"
	cmd.Short = "Run SQL on a member"
	flags := cmd.Flags()
	flags.StringVarP(&o.command, "command", "c", "", "the SQL to run")
	flags.StringVarP(&o.file, "file", "f", "", "run the SQL of this file; - is the standard input")
	flags.Var(&o.format, "format", "output format: pretty, tsv, json or yaml")
	flags.StringVar(&o.delimiter, "delimiter", "\t", "what separates the columns of tsv")
	flags.StringVarP(&o.user, "username", "U", "", "user of the database; otherwise PGUSER or the name of the system user")
	flags.StringVarP(&o.dbname, "dbname", "d", "", "database; otherwise PGDATABASE or that of the user's name")
	flags.BoolVar(&o.askForPass, "password", false, "ask for the password; otherwise PGPASSWORD or ~/.pgpass")
	o.target.addTo(flags)
	o.watch.addTo(flags)
	return cmd
}

// sqlOf takes the SQL from where the options say.
func (a *App) sqlOf(o *queryOptions, command, file bool) (string, error) {
	switch {
	case command && file:
		return "", refuse("--file and --command are mutually exclusive options")
	case command:
		return o.command, nil
	case !file:
		return "", refuse("You need to specify either --command or --file")
	}
	var sql []byte
	var err error
	if o.file == "-" {
		sql, err = io.ReadAll(a.input)
	} else {
		sql, err = os.ReadFile(o.file)
	}
	if err != nil {
		return "", usageError{fmt.Sprintf("read the SQL: %v; name an existing file with -f", err)}
	}
	return string(sql), nil
}

// query runs the SQL once or again and again, with a connection for each time.
// What PostgreSQL refuses is a row of the output, not a failure.
func (a *App) query(ctx context.Context, s *session, name string, o *queryOptions, sql string, every time.Duration) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.askForPass {
		typed, err := a.askHidden(ctx, "Password")
		if err != nil {
			return err
		}
		o.password = config.Secret(typed)
	}
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	return a.watching(ctx, every, func() error {
		result, err := o.run(ctx, c, sql)
		var sqlError *pgconn.PgError
		switch {
		case ctx.Err() != nil:
			return errAborted
		case errors.As(err, new(connectError)):
			return o.write(a, a.messageTable("ERROR, SQLSTATE: "+err.Error()))
		case errors.As(err, &sqlError):
			a.warnf("%v", err)
			return o.write(a, a.messageTable("ERROR, SQLSTATE: "+sqlError.Code))
		case err != nil:
			return o.write(a, a.messageTable("ERROR, SQLSTATE: "+plain.OneLine(err.Error())))
		case result == nil:
			return o.write(a, a.messageTable(fmt.Sprintf("No connection%s is available", o.target)))
		case len(result.FieldDescriptions) == 0:
			return o.write(a, a.messageTable(result.CommandTag.String()))
		}
		return o.write(a, resultTable(result, o.format))
	})
}

// run connects to the member and returns the result of the last statement; nil
// when there is no member in the role asked for.
func (o *queryOptions) run(ctx context.Context, c *dcs.Cluster, sql string) (*pgconn.Result, error) {
	m := o.find(c)
	if m == nil {
		return nil, nil
	}
	conn, err := o.connect(ctx, m)
	if err != nil {
		return nil, err
	}
	defer func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(within) // the answer is what counts
	}()
	if ok, err := o.inRole(ctx, conn); err != nil || !ok {
		return nil, err
	}
	return lastResult(conn.Exec(ctx, sql))
}

// lastResult reads to the end and keeps the result of the last statement, the
// columns too when it has no row.
func lastResult(results *pgconn.MultiResultReader) (*pgconn.Result, error) {
	last := &pgconn.Result{}
	for results.NextResult() {
		reader := results.ResultReader()
		columns := slices.Clone(reader.FieldDescriptions())
		last = reader.Read()
		last.FieldDescriptions = columns
	}
	return last, results.Close()
}

// inRole asks the server itself: what etcd says of a role may be out of date.
func (o *queryOptions) inRole(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	switch o.role {
	case "", anyMember, leaderMember:
		return true, nil
	case primaryMember, standbyLeaderMember, replicaMember, standbyMember:
	}
	r := conn.ExecParams(ctx, "SELECT pg_catalog.pg_is_in_recovery()", nil, nil, nil, nil).Read()
	if r.Err != nil {
		return false, r.Err
	}
	recovering := len(r.Rows) == 1 && string(r.Rows[0][0]) == "t"
	return recovering == (o.role != primaryMember), nil
}

// connectError is a connection that failed, in the words of libpq.
type connectError string

func (e connectError) Error() string { return string(e) }

// connect opens a connection as libpq would: what is not given comes from the
// PG* variables and ~/.pgpass.
func (o *queryOptions) connect(ctx context.Context, m *dcs.Member) (*pgconn.PgConn, error) {
	host, port := hostPort(m.ConnURL)
	if host == "" {
		return nil, connectError(fmt.Sprintf("member %s publishes no address of its PostgreSQL", m.Name))
	}
	failed := func(reason string) error {
		return connectError(fmt.Sprintf("connection to server at %q, port %d failed: %s ", host, port, reason))
	}
	where := url.URL{Scheme: "postgres", Host: net.JoinHostPort(host, fmt.Sprint(port)), Path: "/" + o.dbname}
	if o.user != "" {
		where.User = url.User(o.user)
	}
	cfg, err := pgconn.ParseConfig(where.String())
	if err != nil {
		return nil, failed(plain.OneLine(err.Error())) // says what of the PG* variables is wrong
	}
	cfg.ConnectTimeout = connectTimeout
	if o.password.IsSet() {
		cfg.Password = o.password.Reveal()
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "Patroni ctl"
	}
	cfg.RuntimeParams["datestyle"] = "ISO"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, failed(connectReason(err, cfg.Password == ""))
	}
	return conn, nil
}

// connectReason is why a connection failed, as libpq says it.
func connectReason(err error, noPassword bool) string {
	var refused *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(err, &refused) && refused.Code == "28P01" && noPassword:
		return "fe_sendauth: no password supplied"
	case errors.As(err, &refused):
		return refused.Severity + ":  " + refused.Message
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout expired"
	case errors.As(err, &network):
		return plain.OneLine(network.Err.Error())
	}
	var attempt *pgconn.ConnectError
	if errors.As(err, &attempt) {
		err = attempt.Unwrap()
	}
	return plain.OneLine(err.Error())
}

// messageTable is the one row that stands for a result.
func (a *App) messageTable(text string) *table {
	return &table{
		columns: []string{"Field 1", "Field 2"},
		rows:    [][]any{{a.Now().Format(time.DateTime), strings.ReplaceAll(text, "\n", " ")}},
		unnamed: true,
	}
}

func (o *queryOptions) write(a *App, t *table) error {
	t.delimiter = o.delimiter
	return t.write(a.Out, o.format)
}
