// What an application would do with the client of openapi-generator's `go`.
package main

import (
	"context"
	"fmt"
	"os"

	"probe/client"
)

const topic = "generated.go"

func main() {
	config := client.NewConfiguration()
	config.Servers = client.ServerConfigurations{{URL: os.Getenv("FANFARE_URL")}}
	api := client.NewAPIClient(config)
	ctx := context.WithValue(context.Background(), client.ContextAccessToken, os.Getenv("FANFARE_KEY"))

	one := client.NewEventInput(topic, map[string]any{"order": 42})
	one.SetType("order.paid")
	receipts, _, err := api.PublishingAPI.PublishBatch(ctx).
		Publication(client.EventInputAsPublication(one)).Execute()
	must(err)
	batch := client.NewEventBatch([]client.EventInput{
		*client.NewEventInput(topic, "text"), *client.NewEventInput(topic, []int{1, 2}),
	})
	_, _, err = api.PublishingAPI.PublishBatch(ctx).IdempotencyKey("key-of-go").
		Publication(client.EventBatchAsPublication(batch)).Execute()
	must(err)
	_, _, err = api.PublishingAPI.Publish(ctx, topic).XEventType("order.sent").
		Body(map[string]any{"order": 42}).Execute()
	must(err)

	all, _, err := api.HistoryAPI.ListEvents(ctx, topic).Execute()
	must(err)
	expect(len(all.Events) == 4, "four events", all)
	expect(all.Events[0].GetType() == "order.paid", "a type", all.Events[0])
	expect(all.Events[0].Data.(map[string]any)["order"] == 42.0, "data", all.Events[0])
	later, _, err := api.HistoryAPI.ListEvents(ctx, topic).Since(receipts.Events[0].GetId()).Limit(2).Execute()
	must(err)
	expect(len(later.Events) == 2, "two after a cursor", later)
	recent, _, err := api.HistoryAPI.ListEvents(ctx, topic).Since("-1h").Execute()
	must(err)
	expect(len(recent.Events) == 4, "four of the last hour", recent)
	_, response, err := api.PublishingAPI.Publish(ctx, "not..a.topic").Body(1).Execute()
	expect(err != nil && response.StatusCode == 422, "422", response)
}

func must(err error) {
	expect(err == nil, "no error", err)
}

func expect(isSo bool, what string, seen any) {
	if !isSo {
		fmt.Fprintf(os.Stderr, "expected %s, not %+v\n", what, seen)
		os.Exit(1)
	}
}
