// What an application would do with the client of oapi-codegen.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"probe/fanfare"
)

const topic = "generated.oapi-codegen"

func main() {
	ctx := context.Background()
	withKey := fanfare.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+os.Getenv("FANFARE_KEY"))
		return nil
	})
	api, err := fanfare.NewClientWithResponses(os.Getenv("FANFARE_URL"), withKey)
	must(err)

	paid := "order.paid"
	var one, batch fanfare.Publication
	must(one.FromEventInput(fanfare.EventInput{Topic: topic, Type: &paid, Data: map[string]any{"order": 42}}))
	receipts, err := api.PublishBatchWithResponse(ctx, nil, one)
	must(err)
	expect(receipts.JSON201 != nil, "201", receipts.Status())
	must(batch.FromEventBatch(fanfare.EventBatch{Events: []fanfare.EventInput{
		{Topic: topic, Data: "text"}, {Topic: topic, Data: []int{1, 2}},
	}}))
	key := "key-of-oapi-codegen"
	stored, err := api.PublishBatchWithResponse(ctx, &fanfare.PublishBatchParams{IdempotencyKey: &key}, batch)
	must(err)
	expect(stored.JSON201 != nil, "201", stored.Status())
	sent := "order.sent"
	published, err := api.PublishWithResponse(ctx, topic, &fanfare.PublishParams{XEventType: &sent}, map[string]any{"order": 42})
	must(err)
	expect(published.JSON201 != nil, "201", published.Status())

	all, err := api.ListEventsWithResponse(ctx, topic, nil)
	must(err)
	expect(all.JSON200 != nil && len(all.JSON200.Events) == 4, "four events", string(all.Body))
	first := all.JSON200.Events[0]
	expect(*first.Type == paid, "a type", first)
	expect(first.Data.(map[string]any)["order"] == 42.0, "data", first)
	limit, ago := 2, "-1h"
	later, err := api.ListEventsWithResponse(ctx, topic, &fanfare.ListEventsParams{Since: receipts.JSON201.Events[0].Id, Limit: &limit})
	must(err)
	expect(later.JSON200 != nil && len(later.JSON200.Events) == 2, "two after a cursor", string(later.Body))
	recent, err := api.ListEventsWithResponse(ctx, topic, &fanfare.ListEventsParams{Since: &ago})
	must(err)
	expect(recent.JSON200 != nil && len(recent.JSON200.Events) == 4, "four of the last hour", string(recent.Body))
	refused, err := api.PublishWithResponse(ctx, "not..a.topic", nil, 1)
	must(err)
	problem := refused.ApplicationproblemJSON422
	expect(problem != nil && problem.Code == fanfare.ProblemCodeInvalidTopic, "422", refused.Status())
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
