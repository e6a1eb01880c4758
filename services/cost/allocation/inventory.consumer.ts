import { Controller } from '@nestjs/common';
import { inventoryEventSchema, parseSubject, subjects } from '@upid/contracts';
import { Consume, Database, InventoryMirror, type Delivery } from '@upid/platform';
import { AllocationService } from './allocation.service.js';

/** Keeps the service's mirror of every cluster's objects, and with it what of nodes and pods decides costs. A gap is told to the agent with its next heartbeat, by others. */
@Controller()
export class InventoryConsumer {
  constructor(private readonly database: Database, private readonly inventory: InventoryMirror, private readonly allocation: AllocationService) {}

  @Consume({ stream: 'FACTS', subjects: [subjects.agent('*', 'inventory')], durable: 'inventory' })
  async inventoryEvent(message: Delivery): Promise<void> {
    const { clusterId } = parseSubject(message.subject);
    const event = message.json(inventoryEventSchema);
    await this.database.transaction(async (tx) => {
      await this.allocation.takeInventory(tx, clusterId, Date.parse(event.observed_at), await this.inventory.apply(tx, clusterId, event));
    });
  }
}
