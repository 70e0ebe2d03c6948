import { onEveryTopology } from '../support/topologies.ts';
import { promisesOfEveryFeature } from './features.ts';

onEveryTopology('every feature', promisesOfEveryFeature);
