package bench

import "testing"

func TestTable(t *testing.T) {
	var r results
	gap, rate := measure{"gap", milliseconds}, measure{"requests", perSecond}
	for _, v := range []float64{300, 100, 200} {
		r.add("a", gap, v)
		r.add("b", gap, 10*v)
	}
	r.add("b", rate, 100)
	r.add("a", rate, 250)
	r.add("a", measure{"alone", megabytes}, 9.96)
	want := `| | a | b | ratio |
|---|---|---|---|
| gap | 200 ms (worst 300 ms) | 2000 ms (worst 3000 ms) | 10.0 |
| requests | 250/s | 100/s | 2.5 |
| alone | 10.0 MB | – |  |
`
	if got := r.table("a", "b"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for part, want := range map[float64]float64{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, part); got != want {
			t.Errorf("quantile %v is %v, want %v", part, got, want)
		}
	}
}
