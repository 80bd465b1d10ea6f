// The dashboard of deploy/grafana against the schema that Grafana publishes (its foundation SDK, which is Apache-2.0): each member is one that Grafana
// knows, of the type and within the bounds that it states, those of each kind of panel and of its queries too. Grafana itself is not needed.
package grafana

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

const path = "../../deploy/grafana/fanfare.json"

// Units by their names in Grafana: another text would be shown behind each number as it is.
var known = []string{
	units.Short, units.Seconds, units.BytesIEC, units.BytesPerSecondIEC, units.PercentUnit,
	units.EventsPerSecond, units.OpsPerSecond, units.RequestsPerSecond, units.CountsPerSecond,
}

// What Grafana has against the dashboard once it was changed.
func faults(t *testing.T, change func(string) string) error {
	t.Helper()
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := []byte(change(string(text)))
	// What is read strictly is good for its faults alone: their list is an error also where it is empty, and then no panel is taken.
	var strict, board dashboard.Dashboard
	if err := strict.UnmarshalJSONStrict(changed); err != nil && err.Error() != "" {
		return err
	}
	if err := json.Unmarshal(changed, &board); err != nil {
		return err
	}
	looked := 0
	for _, each := range board.Panels {
		if each.Panel == nil {
			continue
		}
		looked++
		// What is in a panel of another kind would not be looked at.
		if _, found := cog.ConfigForPanelcfgVariant(each.Panel.Type); !found {
			return fmt.Errorf("no panel is a %s", each.Panel.Type)
		}
		if unit := each.Panel.FieldConfig.Defaults.Unit; unit == nil || !slices.Contains(known, *unit) {
			return fmt.Errorf("%s has no unit of Grafana's", *each.Panel.Title)
		}
	}
	if looked < 50 {
		return fmt.Errorf("there are %d panels", looked)
	}
	return board.Validate()
}

func TestTheDashboardIsOneOfGrafanas(t *testing.T) {
	if err := faults(t, func(text string) string { return text }); err != nil {
		t.Fatal(err)
	}
}

func TestWhatGrafanaDoesNotKnowIsFound(t *testing.T) {
	for _, change := range [][2]string{
		{`"graphTooltip": 1`, `"graphTooltip": "shared"`},
		{`"graphTooltip": 1`, `"tooltips": 1`},
		{`"type": "timeseries"`, `"type": "timelines"`},
		{`"unit": "bytes"`, `"unit": "octets"`},
		{`"displayMode": "list"`, `"displayStyle": "list"`},
		{`"lineWidth": 1`, `"lineThickness": 1`},
		{`"legendFormat":`, `"legendForm":`},
		{`"colorMode": "value"`, `"colourMode": "value"`},
	} {
		err := faults(t, func(text string) string {
			if !strings.Contains(text, change[0]) {
				t.Fatalf("%s is not in the dashboard", change[0])
			}
			return strings.Replace(text, change[0], change[1], 1)
		})
		if err == nil {
			t.Errorf("%s is taken", change[1])
		}
	}
}
