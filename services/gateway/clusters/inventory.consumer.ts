import { Controller } from '@nestjs/common';
import { inventoryEventSchema, parseSubject, subjects } from '@upid/contracts';
import { Consume, Database, InventoryMirror, type Delivery } from '@upid/platform';

/** Keeps the gateway's mirror of what it shows of clusters. */
@Controller()
export class InventoryConsumer {
  constructor(private readonly database: Database, private readonly inventory: InventoryMirror) {}

  @Consume({ stream: 'FACTS', subjects: [subjects.agent('*', 'inventory')], durable: 'inventory' })
  async inventoryEvent(message: Delivery): Promise<void> {
    const { clusterId } = parseSubject(message.subject);
    const event = message.json(inventoryEventSchema);
    await this.database.transaction((tx) => this.inventory.apply(tx, clusterId, event));
  }
}
