package dcs

import (
	"encoding/json"
	"slices"
)

// SlotUsage is what a member publishes of a replication slot that keeps WAL.
type SlotUsage struct {
	Name    string `json:"name"`
	Percent int    `json:"percent"` // of the budget, by tens
	Budget  int64  `json:"budget"`  // bytes
	Lost    bool   `json:"lost,omitempty"`
}

// maxSlotUsage bounds what is read of one member: more slots than a server has.
const maxSlotUsage = 1000

func encodeSlotUsage(all []SlotUsage) json.RawMessage {
	if len(all) == 0 {
		return nil
	}
	raw, _ := json.Marshal(all) // texts and numbers cannot fail
	return raw
}

// decodeSlotUsage reads it; what is no such list is none.
func decodeSlotUsage(raw json.RawMessage) []SlotUsage {
	var all []SlotUsage
	if isNull(raw) || json.Unmarshal(raw, &all) != nil || len(all) > maxSlotUsage {
		return nil
	}
	return slices.DeleteFunc(all, func(u SlotUsage) bool { return len(u.Name) > maxSlotName || !cleanText([]byte(u.Name)) })
}
