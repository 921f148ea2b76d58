package ctl

import (
	"strings"
	"time"
)

// scheduleDates and scheduleClocks are the forms a scheduled time may have: ISO
// 8601 with its shorter forms, and a date or a time of day alone.
var (
	scheduleDates  = []string{"2006-01-02", "2006/01/02", "20060102"}
	scheduleClocks = []string{"15:04:05", "15:04", "150405", "1504", "15"} // a fraction is read by itself
	scheduleZones  = []string{"", "Z07:00", "Z0700", "Z07", " Z07:00", " Z0700", " Z07", " MST"}
)

// parseSchedule reads the time an action is scheduled for; zero is "now". One
// without a zone is in that of the reader, one without a date today, one
// without a time midnight.
func (a *App) parseSchedule(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "now" {
		return time.Time{}, nil
	}
	now := a.Now()
	if t, ok := parseAny(text, now.Location(), scheduleLayouts()); ok {
		return t, nil
	}
	today := now.Format("2006-01-02T")
	if t, ok := parseAny(today+text, now.Location(), clockLayouts(scheduleDates[:1], "T")); ok && strings.Contains(text, ":") {
		return t, nil
	}
	return time.Time{}, refuse("Unable to parse scheduled timestamp (%s). It should be in an unambiguous format (e.g. ISO 8601)", text)
}

func scheduleLayouts() []string {
	layouts := clockLayouts(scheduleDates, "T", " ")
	return append(layouts, scheduleDates...)
}

func clockLayouts(dates []string, separators ...string) []string {
	var layouts []string
	for _, date := range dates {
		for _, sep := range separators {
			for _, clock := range scheduleClocks {
				for _, zone := range scheduleZones {
					layouts = append(layouts, date+sep+clock+zone)
				}
			}
		}
	}
	return layouts
}

func parseAny(text string, zone *time.Location, layouts []string) (time.Time, bool) {
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
