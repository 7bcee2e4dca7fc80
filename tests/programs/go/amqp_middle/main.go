// Has a connection with consumers, unacknowledged deliveries and unconfirmed publishes when somebody joins; by
// amqp091-go. As python/amqp_middle.py, but for the methods that confirm older publishes, which the library does not show.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"redwire.test/programs/count"
)

const inFlight = 10

var input = bufio.NewReader(os.Stdin)

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func say(word string) {
	fmt.Println(word)
	must(input.ReadString('\n'))
}

func publish(channel *amqp.Channel, queue string, times int) (confirms []*amqp.DeferredConfirmation) {
	for range times {
		message := amqp.Publishing{Body: []byte("planted-secret-7be2a9")}
		confirms = append(confirms, must(channel.PublishWithDeferredConfirm("", queue, false, false, message)))
	}
	return confirms
}

func wait(confirms []*amqp.DeferredConfirmation) {
	for _, confirm := range confirms {
		must(confirm.WaitContext(context.Background()))
	}
}

// One publish after another.
func confirmed(channel *amqp.Channel, times int) {
	for range times {
		wait(publish(channel, "work", 1))
	}
	count.Add("publish ack -", times)
}

func declare(channel *amqp.Channel, times int) {
	for i := range times {
		must(channel.QueueDeclare(fmt.Sprint("other-", i), false, true, false, false, nil))
	}
	count.Add("queue.declare - -", times)
}

func take(deliveries <-chan amqp.Delivery, times int) (tags []uint64) {
	for range times {
		tags = append(tags, (<-deliveries).DeliveryTag)
	}
	return tags
}

func main() {
	connection := must(amqp.Dial(fmt.Sprintf("amqp://guest:%s@127.0.0.1:%s/", os.Args[2], os.Args[1])))
	consumer, producer, plain := must(connection.Channel()), must(connection.Channel()), must(connection.Channel())
	check(producer.Confirm(false))
	for _, queue := range []string{"work", "automatic", "sink", "box"} {
		must(producer.QueueDeclare(queue, false, false, false, false, nil))
	}
	check(consumer.Qos(1000, 0, false))
	work := must(consumer.Consume("work", "old-reader", false, false, false, false, nil))
	automatic := must(consumer.Consume("automatic", "old-automatic", true, false, false, false, nil))
	wait(publish(producer, "work", 20))
	take(work, 20)
	publish(plain, "sink", 1)
	must(plain.QueueDeclare("sink", false, false, false, false, nil))
	say("open")
	confirms := publish(producer, "work", inFlight)
	say("ready")

	wait(confirms)
	count.Add("in flight", inFlight)
	take(work, inFlight)
	check(consumer.Ack(5, true))
	check(consumer.Reject(6, false))
	check(consumer.Nack(7, false, false))
	count.Add("settled", 3)
	// Older ones, and what came of those in flight.
	check(consumer.Ack(20+inFlight, true))
	count.Add("deliver ack -", inFlight)

	confirmed(producer, 40)
	declare(plain, 1)
	declare(consumer, 3)
	publish(plain, "automatic", 15)
	count.Add("publish - -", 15)
	take(automatic, 15)
	count.Add("unknown", 15)
	for range 2 {
		time.Sleep(1500 * time.Millisecond)
		confirmed(producer, 1)
	}
	// Many at a time, by now.
	wait(publish(producer, "work", 200))
	count.Add("publish ack -", 200)
	tags := take(work, 242)
	for _, tag := range tags[:20] {
		check(consumer.Reject(tag, false))
	}
	count.Add("deliver reject reject", 20)
	for _, tag := range tags[20:40] {
		check(consumer.Ack(tag, false))
	}
	check(consumer.Ack(tags[len(tags)-1], true))
	count.Add("deliver ack -", len(tags)-20)

	// Without confirm mode, as shows in time.
	publish(plain, "sink", 40)
	publish(plain, "box", 4)
	count.Add("publish - -", 44)
	time.Sleep(5500 * time.Millisecond)
	declare(plain, 3)
	for i := range 5 {
		message, found, err := consumer.Get("box", i < 2)
		check(err)
		switch {
		case found && i < 2:
			count.Add("get auto -", 1)
		case found:
			count.Add("get - -", 1)
			check(message.Ack(false))
			count.Add("deliver ack -", 1)
		default:
			count.Add("get - -", 1)
		}
	}
	for _, tag := range []string{"old-reader", "old-automatic"} {
		check(consumer.Cancel(tag, false))
		count.Add("basic.cancel - -", 1)
	}
	// A channel that is new.
	fresh := must(connection.Channel())
	check(fresh.Confirm(false))
	count.Add("confirm.select - -", 1)
	wait(publish(fresh, "sink", 20))
	count.Add("publish ack -", 20)
	for _, channel := range []*amqp.Channel{fresh, consumer, producer, plain} {
		check(channel.Close())
	}
	check(connection.Close())
	count.Report()
}
