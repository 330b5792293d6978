package pgstore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rasterloom/rasterloom/internal/layer"
)

// surveysAtOnce is how many surveys are sent together: what they answer is a row
// each.
const surveysAtOnce = 100

// Surveys surveys samples of many tables, a round trip for each hundred of them;
// what is to be surveyed as a whole is refused as a bug. The findings are in the order of
// the request. Where one fails, those before it are given with the error.
func (t *Tx) Surveys(ctx context.Context, surveys []layer.Survey) ([]layer.Findings, error) {
	found := make([]layer.Findings, 0, len(surveys))
	for start := 0; start < len(surveys); start += surveysAtOnce {
		some, err := t.surveysTogether(ctx, surveys[start:min(start+surveysAtOnce, len(surveys))])
		found = append(found, some...)
		if err != nil {
			return found, faultOf(err)
		}
	}
	return found, nil
}

// surveysTogether sends statements without names: each is for one table, and is not
// worth to be kept prepared, as pgx's own batches would.
func (t *Tx) surveysTogether(ctx context.Context, surveys []layer.Survey) (found []layer.Findings, err error) {
	var batch pgconn.Batch
	for _, s := range surveys {
		if s.Whole {
			return nil, fmt.Errorf("a whole survey of %s among samples", s.Relation.Table)
		}
		sql, args := surveyQuery(s, sampleOf(s))
		values := make([][]byte, len(args))
		for i, a := range args {
			values[i] = asText(a)
		}
		batch.ExecParams(sql, values, nil, nil, nil)
	}
	conn := t.tx.Conn()
	answers := conn.PgConn().ExecBatch(ctx, &batch)
	for _, s := range surveys {
		if !answers.NextResult() {
			break
		}
		f, err := pgx.CollectExactlyOneRow(pgx.RowsFromResultReader(conn.TypeMap(), answers.ResultReader()),
			func(row pgx.CollectableRow) (layer.Findings, error) { return scanSurvey(s, row) })
		if err != nil {
			_ = answers.Close() // says the same
			return found, err
		}
		found = append(found, f)
	}
	return found, answers.Close()
}

// asText writes a parameter of a survey as PostgreSQL reads it back to the same.
func asText(v any) []byte {
	switch v := v.(type) {
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64)
	default: // int, bool
		return fmt.Append(nil, v)
	}
}
