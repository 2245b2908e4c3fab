/** The price in cents after a discount of so many percent. */
export function discounted(cents, percent) {
  return cents - (cents * percent) / 10;
}

/** As people read it. */
export function shown(cents) {
  return [cents / 100, 'EUR'].join(' ');
}
