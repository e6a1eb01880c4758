import { Controller } from '@nestjs/common';
import { coverageEventSchema, inventoryEventSchema, parseSubject, subjects } from '@upid/contracts';
import { Consume, ConsumeBatch, Database, InventoryMirror, type BatchDelivery, type Delivery } from '@upid/platform';
import { CoverageRepository } from './coverage.repository.js';
import { IngestService } from './ingest.service.js';

/** What the agents send: telemetry in batches, inventory and coverage as events. */
@Controller()
export class IngestConsumer {
  constructor(private readonly ingest: IngestService, private readonly database: Database, private readonly inventory: InventoryMirror, private readonly coverage: CoverageRepository) {}

  @ConsumeBatch({ stream: 'TELEMETRY', subjects: [subjects.agent('*', 'usage'), subjects.agent('*', 'requests')], durable: 'telemetry', maxMessages: 500, maxBytes: 16 * 1024 * 1024, maxWaitMs: 20 })
  async telemetry(messages: BatchDelivery[]): Promise<void> {
    await this.ingest.take(messages);
  }

  @Consume({ stream: 'FACTS', subjects: [subjects.agent('*', 'inventory')], durable: 'inventory' })
  async inventoryEvent(message: Delivery): Promise<void> {
    const { clusterId } = parseSubject(message.subject);
    const event = message.json(inventoryEventSchema);
    await this.database.transaction((tx) => this.inventory.apply(tx, clusterId, event));
  }

  @Consume({ stream: 'FACTS', subjects: [subjects.agent('*', 'coverage')], durable: 'coverage' })
  async coverageEvent(message: Delivery): Promise<void> {
    const { clusterId } = parseSubject(message.subject);
    await this.coverage.store(clusterId, message.json(coverageEventSchema), new Date(message.receivedAtMs));
  }
}
