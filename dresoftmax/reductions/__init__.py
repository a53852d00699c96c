"""What a read is: functions of (blocks, threads) whose results add up."""
