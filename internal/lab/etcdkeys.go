package lab

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
)

// Key reads one key of the cluster from etcd, as "sync"; "" when it is not there.
func (l *Lab) Key(ctx context.Context, name string) (string, error) {
	path := []byte(Namespace + l.opts.Scope + "/" + name)
	var answer struct {
		Pairs []struct {
			Value []byte `json:"value"`
		} `json:"kvs"`
	}
	request := map[string]string{"key": base64.StdEncoding.EncodeToString(path)}
	code, err := l.do(ctx, restTimeout, http.MethodPost, l.etcd[0].client, "/v3/kv/range", request, &answer)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	if err != nil {
		return "", fmt.Errorf("read key %s: %w", path, err)
	}
	if len(answer.Pairs) == 0 {
		return "", nil
	}
	return string(answer.Pairs[0].Value), nil
}
