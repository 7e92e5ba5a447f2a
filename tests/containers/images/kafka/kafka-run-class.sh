#!/bin/bash
# Runs a class of Kafka's jars; under the name of a tool that links here, that tool's class.
top=/opt/kafka tools=org.apache.kafka.tools
case $(basename "$0" .sh) in
  kafka-run-class) class=$1; shift ;;
  kafka-topics) class=$tools.TopicCommand ;;
  kafka-console-consumer) class=$tools.consumer.ConsoleConsumer ;;
  kafka-console-producer) class=$tools.ConsoleProducer ;;
  kafka-consumer-groups) class=$tools.consumer.group.ConsumerGroupCommand ;;
  kafka-get-offsets) class=$tools.GetOffsetShell ;;
  *) echo "$0: not in this stand-in" >&2; exit 1 ;;
esac
log=tools-log4j2.yaml heap=-Xmx256m
[ "$class" != kafka.Kafka ] || { log=log4j2.yaml heap='-Xms256m -Xmx1G'; }
[ -e "$top/config/$log" ] && log=$top/config/$log || log=/etc/kafka/docker/$log
# One collector thread and the quick compiler alone, unless asked for otherwise: tests share the machine with the broker.
# shellcheck disable=SC2086 # several options in each
exec java ${KAFKA_HEAP_OPTS:-$heap} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1} \
  "-Dlog4j2.configurationFile=$log" "-Dkafka.logs.dir=$top/logs" ${KAFKA_OPTS:-} -cp "$top/libs/*" "$class" "$@"
