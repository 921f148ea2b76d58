//go:build e2e

package chaos

import "slices"

// allRows lists every row, in the order of their numbers.
func allRows() []row {
	return slices.Concat(processRows(), hostRows(), diskRows(), etcdRows(), networkRows(), laterRows(), syncRows(), operatorRows(), moreRows())
}
