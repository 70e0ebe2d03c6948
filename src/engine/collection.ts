/** A Redis type with elements, for the in-memory implementations, which change it in place. */
export interface Collection {
  /** Redis deletes a hash or a sorted set with its last element, but keeps an empty stream. */
  readonly isEmpty: boolean;
  /** The bytes that the elements take, about. */
  readonly byteLength: number;
  /** The content as JSON. */
  pack(): Buffer;
}
